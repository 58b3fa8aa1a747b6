"""What a run's rows say in words: its settings, its model's name, and why it failed."""

from __future__ import annotations

import hashlib
import json
import os
import traceback
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from voices_peewee.errors import AudioError, InvalidValueError
from voices_peewee.schema.exact import is_nothing
from voices_peewee.schema.fields import clean_tags, dump_json, plain_name, plain_object
from voices_peewee.schema.models import ProcessingHistory

_MAX_ERROR: Final = 100_000
# What a run must have been made with to count; parameters are compared by themselves.
_NAMES: Final = ("operation_type", "model_type", "model_version")
# What track() adds by itself; it is no setting of the run.
_ENVIRONMENT: Final = "environment"


def plain_settings(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, the tags and the note of a run as its rows have them.

    Raises:
        InvalidValueError: There is no operation, the parameters are no JSON object, or a tag or
            the note is no text.
    """
    note, tags = plain_note(told["note"]), told["tags"]
    no_tags = isinstance(tags, str | tuple) and not tags  # as most often, and fast
    return {
        "operation_type": plain_operation(told["operation_type"]),
        "model_type": plain_name(told["model_type"]) or None,
        "model_version": plain_name(told["model_version"]) or None,
        "parameters": plain_object("parameters", told["parameters"]),
        "tags": None if no_tags or plain_name(tags) is None else clean_tags(tags) or None,
        "note": note,
    }


def plain_operation(told: Any) -> str:
    """Return what is done in a run.

    Raises:
        InvalidValueError: It is no text, or an empty one.
    """
    operation = plain_name(told)
    if not isinstance(operation, str) or not operation.strip():
        raise InvalidValueError("a run needs an operation_type")
    return operation


def plain_note(note: str | None) -> str | None:
    """Return a run's note as it is stored: an empty one is NULL.

    Raises:
        InvalidValueError: It is no text.
    """
    if note is None or is_nothing(note):  # of a DataFrame
        return None
    if not isinstance(note, str):
        raise InvalidValueError(f"a note is a text, not {note!r}")
    return note or None


@lru_cache(maxsize=1024)
def canonical(text: str) -> str:
    """Return a text that is the same for parameters that are the same, without environment.

    What another program wrote and is no JSON is the same as itself.
    """
    try:
        parameters = json.loads(text, parse_float=_number)
    except (TypeError, ValueError, RecursionError):
        return text
    if isinstance(parameters, dict) and isinstance(parameters.get(_ENVIRONMENT), dict):
        del parameters[_ENVIRONMENT]
    return json.dumps(parameters, sort_keys=True)


def _number(text: str) -> float:
    """Read numbers alike: JSON has one kind of them, and 2.0 is 2."""
    number = float(text)
    return int(number) if number.is_integer() else number


def digest(settings: Mapping[str, Any]) -> str:
    """Return what is the same for settings that count as the same, and for no others."""
    fields = ProcessingHistory._meta.fields
    values = [fields[name].db_value(settings.get(name)) for name in _NAMES]
    values.append(canonical(dump_json(plain_object("parameters", settings.get("parameters")))))
    values.append(settings.get("model_hash"))
    return hashlib.sha256(json.dumps(values).encode("ascii")).hexdigest()


def model_hash(path: str | os.PathLike[str] | None) -> str | None:
    """Return the SHA-256 of a file with a model's weights; it is read again where it changed.

    Raises:
        InvalidValueError: It cannot be read.
    """
    if path is None:
        return None
    try:
        facts = os.stat(path)
        name = os.path.abspath(os.fsdecode(path))
        # The change time too: what tar or rsync puts there keeps the other one.
        which = (facts.st_dev, facts.st_ino)
        return _hash(name, *which, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    except (OSError, ValueError, TypeError, AudioError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", str(error))
        raise InvalidValueError(f"cannot read the model file {path!r}: {reason}") from error


@lru_cache(maxsize=64)
def _hash(path: str, *facts: int) -> str:  # noqa: ARG001 - what the cache goes by
    from voices_peewee.records.audio_files import content_hash  # late: no list needs it

    return content_hash(path)


def failure(error: BaseException) -> str | None:
    """Return an error's type, message and traceback; None where a block ended well.

    ``sys.exit`` ends it well where the process then tells the system so: 0, None, and False,
    which is 0; but not 0.0, which is printed as an error.
    """
    if isinstance(error, SystemExit) and isinstance(error.code, int | None) and not error.code:
        return None
    name = type(error).__name__
    try:
        message = str(error)
        trace = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - foreign code: an exception that cannot be shown
        message = "(its message cannot be shown)"
        trace = "".join(traceback.format_tb(error.__traceback__))
    return storable(f"{name}: {message}\n\n{trace}" if message else f"{name}\n\n{trace}")


def storable(text: str) -> str:
    """Return text that every database and terminal can hold, cut in the middle if it is long."""
    if len(text) > _MAX_ERROR:
        half = _MAX_ERROR // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters …\n{text[-half:]}"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
