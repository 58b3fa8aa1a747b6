"""The record of voice-separation work: speakers, recordings, runs and how well models did.

>>> from voices_peewee import DatabaseManager, Speaker
>>> with DatabaseManager(":memory:").initialize() as db:
...     ada = db.add(Speaker(name="Ada", tags=["studio"]))
...     db.get_speaker("Ada").tags
['studio']

The rooms of the house; each imports only from those below it:

    cli/            the command voices: words to calls, rows to text
    db_manager.py   DatabaseManager, the one door
    display/        for notebooks, browsers and papers: DataFrames, plots, Datasette
    questions/      what is left, what failed, which model is better, is it real
    exchange/       out and in: JSON lines, CSV; other records merged without doubling
    lifecycle.py    opening, binding the models, migrating, closing
    runs/           recording a run: track, outputs, metrics, cost, runs from elsewhere
    upkeep/         backup, verify, restore, check; a file appears whole or not at all
    records/        speakers and recordings: audio on the disk, rows in the record
    search/         query words to a page of rows
    migrations/     which are applied; apply, roll back, write, compare
    database/       an open database: connections, transactions, rows to objects
    schema/         what the record is: models, fields, and what every column is called
    rendering/      values as text: one table, one cutter, JSON and CSV; knows no database
    errors.py       the tree of errors, and how their sentences begin

Public are the names below, ``voices_peewee.errors``, ``voices_peewee.models`` and the programs
``python -m voices_peewee`` and ``python -m voices_peewee.cli``; the rest is private.
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
        Environment,
        ModelPerformance,
        ProcessedFile,
        ProcessingHistory,
        Speaker,
        database_proxy,
    )

__all__ = [
    "MODELS",
    "DatabaseManager",
    "Environment",
    "ModelPerformance",
    "ProcessedFile",
    "ProcessingHistory",
    "Speaker",
    "VoicesError",
    "__version__",
    "database_proxy",
    "errors",
]

_HOMES = {
    "DatabaseManager": "db_manager",
    "VoicesError": "errors",
    "MODELS": "schema.models",
    "Environment": "schema.models",
    "ModelPerformance": "schema.models",
    "ProcessedFile": "schema.models",
    "ProcessingHistory": "schema.models",
    "Speaker": "schema.models",
    "database_proxy": "schema.models",
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
