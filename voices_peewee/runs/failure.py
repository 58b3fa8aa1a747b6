"""How the error that ended a run is kept."""

from __future__ import annotations

import traceback
from typing import Final

_MAX_ERROR: Final = 100_000


def failure(error: BaseException | None) -> str | None:
    """Return why a block failed; None where it ended well, as by ``sys.exit`` without an error."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return None
    return describe(error)


def describe(error: BaseException) -> str:
    """Return an exception's type and message, an empty line, and its traceback."""
    name = type(error).__name__
    try:
        message = str(error)
        trace = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - foreign code: an exception that cannot be shown
        return f"{name}: (its message cannot be shown)\n\n{_frames(error)}"
    return storable(f"{name}: {message}\n\n{trace}" if message else f"{name}\n\n{trace}")


def _frames(error: BaseException) -> str:
    return storable("".join(traceback.format_tb(error.__traceback__)))


def storable(text: str) -> str:
    """Return text that every database and terminal can hold, cut in the middle if it is long."""
    if len(text) > _MAX_ERROR:
        half = _MAX_ERROR // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters …\n{text[-half:]}"
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
