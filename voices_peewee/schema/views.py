"""The named SQL views, for tools that read the database without this package.

They are made by the migrations, which hold copies of their own; ``voices check`` and the
tests compare both. It is the SQL of SQLite and PostgreSQL, but for the names of two functions.
"""

from __future__ import annotations

from typing import Final

# LEFT keeps SQLite at history first, whose indexes give the order, though every row has a file.
# An error's first line is as list-history shows it; PostgreSQL says strpos and chr.
VIEWS: Final = {
    "v_runs": """
SELECT history.id AS id, history.start_time AS start_time,
 CASE WHEN history.success THEN 'success' WHEN history.end_time IS NULL THEN 'unfinished'
  ELSE 'failed' END AS status,
 history.operation_type AS operation_type, history.model_type AS model_type,
 history.model_version AS model_version, file.filename AS filename, speaker.name AS speaker,
 substr(ltrim(history.error_message, ' ' || char(9) || char(10) || char(13)), 1,
  instr(ltrim(history.error_message, ' ' || char(9) || char(10) || char(13)) || char(10),
   char(10)) - 1) AS error,
 history.end_time AS end_time, history.parameters AS parameters, history.tags AS tags,
 history.note AS note, history.model_hash AS model_hash, environment.facts AS environment,
 file.original_path AS original_path, file.processed_path AS processed_path,
 history.run_id AS run_id, history.processed_file_id AS processed_file_id,
 file.speaker_id AS speaker_id
FROM processing_history AS history
 LEFT JOIN processed_files AS file ON file.id = history.processed_file_id
 LEFT JOIN speakers AS speaker ON speaker.id = file.speaker_id
 LEFT JOIN environments AS environment ON environment.id = history.environment_id
""",
    "v_performance": """
SELECT measured.id AS id, measured.model_type AS model_type,
 measured.model_version AS model_version, file.filename AS filename, speaker.name AS speaker,
 measured.si_snri AS si_snri, measured.sdri AS sdri,
 measured.real_time_factor AS real_time_factor, measured.processing_time AS processing_time,
 measured.memory_usage AS memory_usage, measured.cpu_usage AS cpu_usage,
 measured.additional_metrics AS additional_metrics,
 coalesce(recording.duration, file.duration) AS duration,
 CASE WHEN history.success THEN 'success' WHEN history.end_time IS NULL THEN 'unfinished'
  ELSE 'failed' END AS status,
 history.operation_type AS operation_type, history.start_time AS start_time,
 measured.created_at AS created_at, file.original_path AS original_path,
 file.processed_path AS processed_path, history.run_id AS run_id,
 measured.processing_history_id AS processing_history_id,
 history.processed_file_id AS processed_file_id, file.speaker_id AS speaker_id
FROM model_performance AS measured
 LEFT JOIN processing_history AS history ON history.id = measured.processing_history_id
 LEFT JOIN processed_files AS file ON file.id = history.processed_file_id
 LEFT JOIN speakers AS speaker ON speaker.id = file.speaker_id
 LEFT JOIN processed_files AS recording ON recording.id = file.recording_id
""",
    # Every measurement counts, unlike in db.leaderboard(), which counts a recording once.
    # NOT IN reads the few rows without success, each kind by its index.
    "v_leaderboard": """
SELECT model_type, model_version, max(measurements) AS measurements,
 max(failed_runs) AS failed_runs, max(mean_si_snri) AS mean_si_snri,
 max(min_si_snri) AS min_si_snri, max(max_si_snri) AS max_si_snri,
 max(mean_sdri) AS mean_sdri, max(mean_real_time_factor) AS mean_real_time_factor,
 max(mean_memory_usage) AS mean_memory_usage,
 max(mean_processing_time) AS mean_processing_time
FROM (
 SELECT model_type, model_version, count(*) AS measurements, 0 AS failed_runs,
  avg(si_snri) AS mean_si_snri, min(si_snri) AS min_si_snri, max(si_snri) AS max_si_snri,
  avg(sdri) AS mean_sdri, avg(real_time_factor) AS mean_real_time_factor,
  avg(memory_usage) AS mean_memory_usage, avg(processing_time) AS mean_processing_time
 FROM model_performance
 WHERE si_snri IS NOT NULL
  AND processing_history_id NOT IN (
   SELECT id FROM processing_history WHERE NOT success AND end_time IS NOT NULL
   UNION ALL SELECT id FROM processing_history WHERE NOT success AND end_time IS NULL)
 GROUP BY model_type, model_version
 UNION ALL
 SELECT model_type, model_version, 0, count(DISTINCT run_id),
  NULL, NULL, NULL, NULL, NULL, NULL, NULL
 FROM processing_history
 WHERE NOT success AND end_time IS NOT NULL
 GROUP BY model_type, model_version
) AS counted
GROUP BY model_type, model_version
""",
}


def create_view(name: str, select: str) -> str:
    """Return the statement that makes a view."""
    return f"CREATE VIEW {name} AS {select.strip()}"
