"""Pages that stand alone: one file with its style and script, and no request to anywhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from importlib import resources
from typing import Any, Final

from voices_peewee.errors import MissingExtraError
from voices_peewee.rendering.plain import (
    cell,
    fit,
    heading,
    kind_of,
    number,
    printable,
    signed,
)

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
except ImportError as error:
    raise MissingExtraError("writing a page", "report") from error

_HERE: Final = resources.files(__package__)


def page(name: str, context: Mapping[str, Any], *, media: str = "") -> str:
    """Return a page of ``templates/NAME.html``, with ``static/NAME.css`` and ``NAME.js`` in it.

    Whatever is put in is escaped, and one line of harmless text. ``media`` says where sounds may
    come from, as a Content-Security-Policy does; none if empty.
    """
    style, script = (_read(f"static/{name}.{kind}") for kind in ("css", "js"))
    policy = "; ".join(
        [
            "default-src 'none'; base-uri 'none'; form-action 'none'",
            f"style-src {_hash(style)}; script-src {_hash(script)}",
            *([f"media-src {media}"] if media else []),
        ]
    )
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_harmless,
    )
    environment.filters |= {
        "cell": lambda value, column: cell(column.kind, value),
        "fit": fit,
        "heading": heading,
        "number": number,
        "signed": signed,
    }
    environment.tests["right"] = lambda column: kind_of(column).right
    parts = {"style": Markup(style), "script": Markup(script), "policy": Markup(policy)}  # noqa: S704 - the package's own files
    return environment.get_template(f"{name}.html").render(**context, **parts)


def _read(name: str) -> str:
    return _HERE.joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _harmless(value: object) -> object:
    return value if isinstance(value, Markup) else printable(value)
