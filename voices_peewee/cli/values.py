"""What the words of a command line mean, as Click's callbacks: values, durations, times, models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click


def assignments(_: object, __: object, texts: Sequence[str]) -> dict[str, object]:
    """Read ``KEY=VALUE`` texts; a value is JSON where it can be read so, else text.

    A number that JSON would write otherwise, such as the version 4.10, stays text.
    """
    return {key: _json_or_text(value) for key, value in _pairs(texts, "KEY=VALUE")}


def roots(_: object, __: object, texts: Sequence[str]) -> dict[str, str]:
    """Read the ``OLD=NEW`` texts of ``--path-map``."""
    return dict(_pairs(texts, "OLD=NEW"))


def joined(_: object, __: object, texts: Sequence[str]) -> str:
    """Read an option that may be given several times as one list with commas."""
    return ",".join(texts)


def _pairs(texts: Sequence[str], form: str) -> Iterator[tuple[str, str]]:
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{text!r} is not {form}")
        yield key, value


def _json_or_text(text: str) -> object:
    import json

    try:
        value = json.loads(text, parse_constant=str)  # NaN is no number of JSON
    except (ValueError, RecursionError):
        return text
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return text if is_number and json.dumps(value) != text else value


def duration(_: object, __: object, text: str | None) -> float | None:
    """Read a duration such as 90m, 36h or 2d, in seconds."""
    if text is None:
        return None
    from voices_peewee.search.words import number

    try:
        has_unit = not text[-1:].isdigit()  # seconds, or days? it has to be said
        return number("seconds", text if has_unit else "")
    except ValueError as error:
        expected = "a duration with its unit, as 90m, 36h or 2d"
        raise click.BadParameter(f"{text!r} cannot be read; it takes {expected}") from error


def only_one(_: object, __: object, names: tuple[str, ...]) -> str | None:
    """Return the one name that an option has, or None."""
    if len(names) > 1:
        raise click.BadParameter(f"it takes one, not {len(names)}")
    return names[0] if names else None


def model_parts(ctx: click.Context, param: object, names: tuple[str, ...]) -> None:
    """Split ``demucs:4.0`` at its last colon into ``model_type`` and ``model_version``."""
    model, colon, version = (only_one(ctx, param, names) or "").rpartition(":")
    parts = (model, version) if colon else (version or None, None)
    ctx.params |= dict(zip(("model_type", "model_version"), parts, strict=True))


def with_words(ctx: click.Context, _: object, words: tuple[str, ...]) -> tuple[str, ...]:
    """Put query words beside those that ``where`` has already."""
    words = (*ctx.params.get("where", ()), *words)
    ctx.params["where"] = words
    return words
