"""What Datasette says of our tables: descriptions, order, facets and questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from voices_peewee.schema.vocabulary import COLUMNS

STATIC: Final = "voices-static"
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
    "model_performance": {
        "description": "What one row of the history measured.",
        "sort_desc": "id",
        "facets": ["model_type", "model_version"],
    },
    "schema_migrations": {"description": "The migrations that were applied to this database."},
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
_RUNS: Final = """
SELECT min(start_time) AS start_time, status, operation_type, model_type, model_version,
  count(*) AS outputs, group_concat(filename, ', ') AS files,
  group_concat(DISTINCT speaker) AS speakers, min(error) AS error, run_id
FROM v_runs
WHERE id IN (SELECT id FROM processing_history {which})
GROUP BY run_id, status, operation_type, model_type, model_version
ORDER BY min(start_time) {order}
"""
_FAILED: Final = "WHERE NOT success AND end_time IS NOT NULL"
QUERIES: Final[dict[str, dict[str, str]]] = {
    "leaderboard": {
        "title": "Leaderboard",
        "description": "Which model is best? The highest mean SI-SNRi first.",
        "sql": """
SELECT model_type, model_version, measurements, failed_runs, mean_si_snri, min_si_snri, max_si_snri,
  mean_sdri, mean_real_time_factor, mean_memory_usage, mean_processing_time
FROM v_leaderboard
ORDER BY mean_si_snri DESC, model_type, model_version
""",
    },
    "recent_runs": {
        "title": "Recent runs",
        "description": "What was done last? The runs of the newest 300 rows, a row each.",
        "sql": _RUNS.format(which="ORDER BY start_time DESC LIMIT 300", order="DESC"),
    },
    "failures": {
        "title": "Failures",
        "description": "What failed? The newest, a row for each run.",
        "sql": _RUNS.format(which=f"{_FAILED} ORDER BY start_time DESC LIMIT 1000", order="DESC"),
    },
    "errors": {
        "title": "Errors",
        "description": "Why did runs fail? Grouped by the first line of the error.",
        "sql": """
SELECT error, count(DISTINCT run_id) AS runs, max(start_time) AS latest, min(filename) AS a_file
FROM v_runs
WHERE id IN (SELECT id FROM processing_history WHERE NOT success AND end_time IS NOT NULL)
GROUP BY error
ORDER BY runs DESC, error
""",
    },
    "unfinished": {
        "title": "Unfinished",
        "description": "What is still running, or was killed? The oldest first, a row each run.",
        "sql": _RUNS.format(which="WHERE end_time IS NULL AND NOT success", order=""),
    },
    "per_speaker": {
        "title": "Per speaker",
        "description": "Which model is best for a speaker? An empty name shows all.",
        "sql": """
SELECT speaker, model_type, model_version, count(*) AS measurements, avg(si_snri) AS mean_si_snri,
  avg(sdri) AS mean_sdri, avg(real_time_factor) AS mean_real_time_factor
FROM v_performance
WHERE status = 'success' AND si_snri IS NOT NULL AND (:speaker = '' OR speaker = :speaker)
GROUP BY speaker_id, speaker, model_type, model_version
ORDER BY speaker, mean_si_snri DESC
""",
    },
}


def metadata(name: str, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return Datasette's metadata.

    Args:
        name: What the database is called.
        columns: The names of the columns of each table and view.
    """
    described = {
        table: {**facts, "columns": _about(columns.get(table, ()))}
        for table, facts in TABLES.items()
    }
    queries = {
        key: {**query, "sql": query["sql"].strip(), "hide_sql": True}
        for key, query in QUERIES.items()
    }
    about = "The record of voice-separation work, read-only. Times are UTC."
    return {
        "title": f"Voices: {name}",
        "description": about,
        "extra_css_urls": [f"/{STATIC}/web.css"],
        "databases": {
            "voices": {
                "title": name,
                "description": "Tables hold the record; views (v_...) show it with names.",
                "tables": described,
                "queries": queries,
            }
        },
    }


def _about(names: Sequence[str]) -> dict[str, str]:
    return {name: COLUMNS[name].about for name in names if name in COLUMNS and COLUMNS[name].about}
