"""What a database holds, at a glance in a notebook."""

from __future__ import annotations

import re
from typing import Final

from voices_peewee import html_text
from voices_peewee.errors import VoicesError
from voices_peewee.lifecycle import Lifecycle
from voices_peewee.models import (
    ModelPerformance,
    ProcessedFile,
    ProcessingHistory,
    Speaker,
)

_COUNTED: Final = {
    "speakers": Speaker,
    "files": ProcessedFile,
    "history rows": ProcessingHistory,
    "measurements": ModelPerformance,
}
# What stands between the user and the last @, and a password among the options.
_USER: Final = re.compile(r"(?<=://)([^/?#@:]*):[^?#]*(?=@)")
_OPTION: Final = re.compile(r"(?i)([?&][a-z_]*(?:password|secret|token)=)[^&#]*")


def overview_html(manager: Lifecycle) -> str:
    """Return where the database is and how much it holds; what is closed stays closed."""
    name = f"{type(manager).__name__} {without_password(manager.path)}"
    if not manager.is_connected:
        return html_text.facts({}, title=name, note="not connected; call connect() or initialize()")
    try:
        with manager.store.reading():
            counts = {what: model.select().count() for what, model in _COUNTED.items()}
    except VoicesError as error:
        return html_text.facts({}, title=name, note=str(error))
    return html_text.facts({what: f"{count:,}" for what, count in counts.items()}, title=name)


def without_password(place: str) -> str:
    """Return a path as it is, and a URL without its password."""
    if "://" not in place:
        return place
    return _OPTION.sub(r"\1***", _USER.sub(r"\1:***", place))
