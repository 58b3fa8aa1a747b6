"""What Datasette says of our tables: descriptions, order and facets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from voices_peewee.schema.vocabulary import COLUMNS

# Facets count rows within a time limit: these columns have an index or few rows.
TABLES: Final[dict[str, dict[str, Any]]] = {
    "speakers": {"description": "A voice.", "label_column": "name", "sort": "name"},
    "processed_files": {
        "description": "A recording, one output (stem) made from it, or one voice in it.",
        "label_column": "filename",
        "sort_desc": "id",
        "facets": ["file_format", "speaker_id"],
    },
    "processing_history": {
        "description": "One operation on one file; a run has a row for each output.",
        "label_column": "operation_type",
        "sort_desc": "id",
        "facets": ["operation_type", "model_type"],
    },
    "environments": {
        "description": "Where runs were made: Python, host, git commit, torch, Slurm job.",
        "sort_desc": "id",
    },
    "claims": {"description": "Who works on which recording.", "sort_desc": "id", "hidden": True},
    "model_performance": {
        "description": "What one row of the history measured.",
        "sort_desc": "id",
        "facets": ["model_type", "model_version"],
    },
    "listening_tests": {
        "description": "A blind listening test.",
        "label_column": "name",
        "sort_desc": "id",
    },
    "listening_votes": {"description": "A listener's vote on two stems.", "sort_desc": "id"},
    "v_runs": {
        "description": "The history with file, speaker and status; a run has a row an output.",
        "sort_desc": "start_time",
        "facets": ["status", "operation_type", "model_type"],
    },
    "v_performance": {
        "description": "Every measurement with its file, speaker, model and status.",
        "sort_desc": "id",
        "facets": ["model_type", "model_version"],
    },
    "v_leaderboard": {
        "description": "Measurements and failed runs of models: the highest mean SI-SNRi first.",
        "sort_desc": "mean_si_snri",
    },
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
