"""The record of voice-separation work: speakers, recordings, runs and how well models did.

from voices_peewee import (DatabaseManager, Speaker)

with DatabaseManager("voices.db").initialize() as db:
    ada = db.add(Speaker(name="Ada"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from voices_peewee._version import __version__

if TYPE_CHECKING:
    from voices_peewee import errors
    from voices_peewee.db_manager import DatabaseManager
    from voices_peewee.errors import VoicesError
    from voices_peewee.schema.models import (
        MODELS,
        ModelPerformance,
        ProcessedFile,
        ProcessingHistory,
        Speaker,
    )

__all__ = [
    "MODELS",
    "DatabaseManager",
    "ModelPerformance",
    "ProcessedFile",
    "ProcessingHistory",
    "Speaker",
    "VoicesError",
    "__version__",
    "errors",
]

_HOMES = {
    "DatabaseManager": "db_manager",
    "VoicesError": "errors",
    "MODELS": "schema.models",
    "ModelPerformance": "schema.models",
    "ProcessedFile": "schema.models",
    "ProcessingHistory": "schema.models",
    "Speaker": "schema.models",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that the shell starts without Peewee."""
    if name == "errors":
        return import_module("voices_peewee.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"voices_peewee.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
