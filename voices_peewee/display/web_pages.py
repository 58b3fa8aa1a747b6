"""What the web pages say: titles, descriptions with units, facets, queries and the start page."""

from __future__ import annotations

from typing import Any, Final

# Facets count rows within a time limit: these columns have an index or few rows.
_FILES: Final = {
    "filename": "Name of the file, without its folder.",
    "original_path": "Path or URL of the recording.",
    "processed_path": "Path of the output; empty until something was written.",
}
_MODEL: Final = {
    "model_type": "Name of the model.",
    "model_version": "Version of the model.",
}
_METRICS: Final = {
    "si_snri": "Improvement of the scale-invariant signal-to-noise ratio, in dB; higher is better.",
    "sdri": "Improvement of the signal-to-distortion ratio, in dB; higher is better.",
    "cpu_usage": "CPU time in percent of one core.",
    "memory_usage": "Peak memory in MB.",
    "processing_time": "Processing time in seconds.",
    "real_time_factor": "Processing time ÷ duration of the audio; below 1 is faster than live.",
}
_RUN: Final = {
    "run_id": "Groups the rows of one run: one for each output.",
    "operation_type": "What was done, such as voice_separation.",
    **_MODEL,
    "start_time": "When the run began (UTC).",
}
_STATUS: Final = {"status": "success, failed or unfinished (no end time yet)."}
_CREATED: Final = {"created_at": "When the row was written (UTC)."}
_TIMES: Final = {**_CREATED, "updated_at": "When the row was last changed (UTC)."}
_SPEAKER: Final = {"speaker_id": "The speaker's id.", "speaker": "The speaker's name."}

TABLES: Final[dict[str, dict[str, Any]]] = {
    "speakers": {
        "description": "A voice.",
        "label_column": "name",
        "sort": "name",
        "columns": {
            "name": "Name; several speakers may share one.",
            "description": "Free text.",
            "tags": "JSON array of texts.",
            **_TIMES,
        },
    },
    "processed_files": {
        "description": "A recording, or one output (stem) made from it.",
        "label_column": "filename",
        "sort_desc": "id",
        "facets": ["file_format", "speaker_id"],
        "columns": {
            **_FILES,
            "file_format": "Format of the recording, such as wav or flac.",
            "duration": "Duration in seconds.",
            "sample_rate": "Sample rate in Hz.",
            "channels": "Number of channels.",
            "metadata": "JSON object with anything else that is known of the file.",
            "speaker_id": "Whose voice it is.",
            "file_size": "Size in bytes.",
            "content_hash": "SHA-256 of the recording's bytes, in hexadecimal.",
            **_TIMES,
        },
    },
    "processing_history": {
        "description": "One operation on one file. v_runs shows the same with names.",
        "label_column": "operation_type",
        "sort_desc": "id",
        "facets": ["operation_type", "model_type"],
        "columns": {
            **_RUN,
            "processed_file_id": "The file that it was done to.",
            "parameters": "JSON object with the settings of the run.",
            "end_time": "When the run ended (UTC); empty while it is unfinished.",
            "success": "1 for a run that succeeded, otherwise 0.",
            "error_message": "Why the run failed, with the traceback.",
            "source_hash": "SHA-256 of the recording when the run began.",
            "process": "JSON: the host and the process that recorded the run.",
        },
    },
    "model_performance": {
        "description": "What one row of the history measured. v_performance adds the names.",
        "sort_desc": "id",
        "facets": ["model_type", "model_version"],
        "columns": {
            "processing_history_id": "The row of the history that was measured.",
            **_MODEL,
            **_METRICS,
            "additional_metrics": "JSON object with every other metric.",
            **_CREATED,
        },
    },
    "schema_migrations": {
        "description": "The migrations that were applied to this database.",
        "columns": {"name": "Name of the migration.", "migrated_at": "When it was applied (UTC)."},
    },
    "v_runs": {
        "description": "Every run with its file, speaker and status; the newest first.",
        "sort_desc": "start_time",
        "facets": ["status", "operation_type", "model_type"],
        "columns": {
            "id": "Id of the row in processing_history.",
            "processed_file_id": "Id of the row in processed_files.",
            **_RUN,
            **_FILES,
            **_SPEAKER,
            **_STATUS,
            "parameters": "JSON object with the settings of the run.",
            "end_time": "When the run ended (UTC).",
            "error": "First line of the error.",
        },
    },
    "v_performance": {
        "description": "Every measurement with its file, speaker, model and status.",
        "sort_desc": "id",
        "facets": ["model_type", "model_version"],
        "columns": {
            "id": "Id of the row in model_performance.",
            "processing_history_id": "Id of the row in processing_history.",
            "processed_file_id": "Id of the row in processed_files.",
            **_RUN,
            **_FILES,
            **_SPEAKER,
            **_STATUS,
            "duration": "Duration of the recording in seconds.",
            **_METRICS,
            "additional_metrics": "JSON object with every other metric.",
            **_CREATED,
        },
    },
    "v_leaderboard": {
        "description": "Models by what they reached: the highest mean SI-SNRi first.",
        "sort_desc": "mean_si_snri",
        "columns": {
            **_MODEL,
            "n": "Successful measurements with a value of SI-SNRi.",
            "failures": "Runs that failed.",
            "mean_si_snri": "Mean SI-SNRi in dB.",
            "min_si_snri": "Lowest SI-SNRi in dB.",
            "max_si_snri": "Highest SI-SNRi in dB.",
            "mean_sdri": "Mean SDRi in dB, of the same measurements.",
            "mean_real_time_factor": "Mean processing time ÷ duration of the audio.",
            "mean_memory_usage": "Mean of the peak memory in MB.",
            "mean_processing_time": "Mean processing time in seconds.",
        },
    },
}

QUERIES: Final[dict[str, dict[str, Any]]] = {
    "leaderboard": {
        "title": "Leaderboard",
        "description": "Which model is best? SI-SNRi and SDRi in dB, memory in MB, time in s.",
        "sql": """
SELECT model_type, model_version, n, failures, round(mean_si_snri, 2) AS mean_si_snri,
  round(min_si_snri, 2) AS min_si_snri, round(max_si_snri, 2) AS max_si_snri,
  round(mean_sdri, 2) AS mean_sdri, round(mean_real_time_factor, 5) AS mean_real_time_factor,
  round(mean_memory_usage) AS mean_memory_usage,
  round(mean_processing_time, 5) AS mean_processing_time
FROM v_leaderboard
ORDER BY mean_si_snri DESC, model_type, model_version
""",
    },
    "recent_runs": {
        "title": "Recent runs",
        "description": "What was done last? The newest 100, with their status.",
        "sql": """
SELECT id, start_time, status, operation_type, model_type, model_version, filename, speaker, error
FROM v_runs
ORDER BY start_time DESC
LIMIT 100
""",
    },
    "failures": {
        "title": "Failures",
        "description": "What failed? The newest 500, with the first line of each error.",
        "sql": """
SELECT id, start_time, error, operation_type, model_type, model_version, filename, speaker
FROM v_runs
WHERE id IN (
  SELECT id FROM processing_history
  WHERE NOT success AND end_time IS NOT NULL ORDER BY start_time DESC LIMIT 500
)
ORDER BY start_time DESC
""",
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
        "description": "What is still running, or was killed? The oldest first.",
        "sql": """
SELECT id, start_time, operation_type, model_type, model_version, filename, speaker
FROM v_runs
WHERE id IN (SELECT id FROM processing_history WHERE end_time IS NULL AND NOT success)
ORDER BY start_time
""",
    },
    "per_speaker": {
        "title": "Per speaker",
        "description": "Which model is best for a speaker? An empty name shows all.",
        "sql": """
SELECT speaker, model_type, model_version, count(*) AS n, round(avg(si_snri), 2) AS mean_si_snri,
  round(avg(sdri), 2) AS mean_sdri, round(avg(real_time_factor), 5) AS mean_real_time_factor
FROM v_performance
WHERE status = 'success' AND si_snri IS NOT NULL AND (:speaker = '' OR speaker = :speaker)
GROUP BY speaker_id, speaker, model_type, model_version
ORDER BY speaker, mean_si_snri DESC
""",
    },
}

COUNTS: Final = {
    "speakers": ("speakers", "SELECT count(*) FROM speakers"),
    "files": ("processed_files", "SELECT count(*) FROM processed_files"),
    "runs": ("v_runs", "SELECT count(*) FROM processing_history"),
    "failed": (
        "failures",
        "SELECT count(*) FROM processing_history WHERE NOT success AND end_time IS NOT NULL",
    ),
    "unfinished": (
        "unfinished",
        "SELECT count(*) FROM processing_history WHERE end_time IS NULL AND NOT success",
    ),
    "measurements": ("v_performance", "SELECT count(*) FROM model_performance"),
}

# Every page is made from this one: room for the rows below the columns' descriptions.
BASE_PAGE: Final = """{% extends "default:base.html" %}
{% block extra_head %}<style>
.page-header { border-color: #276890 !important; }
dl.column-descriptions { columns: 21rem; }
dl.column-descriptions dt { break-after: avoid; }
.rows-and-columns td { max-width: 24rem; overflow-wrap: break-word; }
.counts { display: flex; flex-wrap: wrap; gap: 0.75rem; padding: 0; }
.counts a { flex: 1 0 7rem; padding: 0.6rem 0.9rem; border: 1px solid #c3cad2;
  border-radius: 6px; text-decoration: none; }
.counts a:hover { border-color: #276890; }
.counts strong { display: block; font-size: 1.6rem; }
.lists { display: grid; gap: 0 2.5rem;
  grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); }
.lists dt { margin-top: 0.6rem; font-weight: bold; }
.lists dd { margin: 0; color: #4a4f57; }
</style>{% endblock %}
"""

# Datasette's own page puts the SQL of a question into the title of the browser's tab.
QUERY_PAGE: Final = """{% extends "default:query.html" %}
{% block title %}{% if canned_query %}{{ metadata.title }}{% else %}{{ super() }}{% endif %}
{%- endblock %}
"""

# Jinja escapes what is printed here: names of files and databases are anybody's.
START_PAGE: Final = """{% extends "base.html" %}
{% block title %}{{ metadata.title }}{% endblock %}
{% block body_class %}index{% endblock %}
{% block content %}
<h1>{{ metadata.title }}</h1>
<p>{{ metadata.description }}</p>
<p class="counts">
{% for name, page, count in voices_counts() %}<a
 href="{{ urls.database("voices") }}/{{ page }}"><strong>{{ count }}</strong>{{ name }}</a>
{% endfor %}</p>
<div class="lists">
<section><h2>Questions</h2><dl>
{% for name, query in voices_queries.items() %}<dt><a
 href="{{ urls.query("voices", name) }}">{{ query.title }}</a></dt><dd>{{ query.description }}</dd>
{% endfor %}<dt><a href="{{ urls.database("voices") }}">Your own</a></dt><dd>Ask in SQL.</dd>
</dl></section>
<section><h2>Tables and views</h2><dl>
{% for name, table in voices_tables.items() %}<dt><a
 href="{{ urls.table("voices", name) }}">{{ name }}</a></dt><dd>{{ table.description }}</dd>
{% endfor %}</dl></section>
</div>
{% endblock %}
"""

PAGES: Final = {"base.html": BASE_PAGE, "index.html": START_PAGE, "query.html": QUERY_PAGE}


def metadata(name: str) -> dict[str, Any]:
    """Return Datasette's metadata for a database of this name."""
    return {
        "title": f"Voices: {name}",
        "description": "The record of voice-separation work, read-only. Times are UTC.",
        "databases": {
            "voices": {
                "title": name,
                "description": "Tables hold the record; views (v_...) show it with names.",
                "tables": TABLES,
                "queries": {
                    key: {**query, "sql": query["sql"].strip(), "hide_sql": True}
                    for key, query in QUERIES.items()
                },
            }
        },
    }
