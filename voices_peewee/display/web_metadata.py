"""What Datasette says of our tables: descriptions, order and facets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from voices_peewee.schema.vocabulary import COLUMNS


def _table(description: str, *facets: str, sort_desc: str = "id", **more: Any) -> dict[str, Any]:
    return {"description": description, "facets": [*facets], "sort_desc": sort_desc, **more}


_MODEL: Final = ("model_type", "model_version")
# Facets count rows within a time limit: these columns have an index or few rows.
TABLES: Final[dict[str, dict[str, Any]]] = {
    "speakers": _table("A voice.", label_column="name"),
    "processed_files": _table(
        "A recording, one output (stem) made from it, or one voice in it.",
        *("file_format", "speaker_id"),
        label_column="filename",
    ),
    "processing_history": _table(
        "One operation on one file; a run has a row for each output.",
        *("operation_type", "model_type"),
        label_column="operation_type",
    ),
    "environments": _table("Where runs were made: Python, host, git commit, torch, Slurm job."),
    "claims": _table("Who works on which recording.", hidden=True),
    "model_performance": _table("What one row of the history measured.", *_MODEL),
    "listening_tests": _table("A blind listening test.", label_column="name"),
    "listening_votes": _table("A listener's vote on two stems."),
    "v_runs": _table(
        "The history with file, speaker and status; a run has a row an output.",
        *("status", "operation_type", "model_type"),
        sort_desc="start_time",
    ),
    "v_performance": _table("Every measurement with its file, speaker, model and status.", *_MODEL),
    "v_leaderboard": _table(
        "Measurements and failed runs of models: the highest mean SI-SNRi first.",
        sort_desc="mean_si_snri",
    ),
}


def metadata(name: str, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return Datasette's metadata.

    Args:
        name: What the database is called.
        columns: The names of the columns of each table and view.
    """
    about = {
        table: {column: COLUMNS[column].about for column in names if column in COLUMNS}
        for table, names in columns.items()
    }
    return {
        "title": f"Voices: {name}",
        "description": "The record of voice-separation work, read-only. Times are UTC.",
        "about": "the report",
        "about_url": "/-/report",
        "databases": {
            "voices": {
                "title": name,
                "description": "Tables hold the record; views (v_...) show it with names.",
                "tables": {
                    table: {**facts, "columns": about[table]} for table, facts in TABLES.items()
                },
            }
        },
    }
