"""What models measured of recordings, written as the package keeps it: recordings and stems."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from voices_peewee import DatabaseManager, ModelPerformance, ProcessedFile, ProcessingHistory
from voices_peewee.schema.models import Speaker
from voices_peewee.schema.vocabulary import METRIC_COLUMNS

START = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)
Outcome = float | None | str | Sequence[Any] | Mapping[Any, Any]
_NUMBERS = itertools.count()


def measure(
    db: DatabaseManager,
    model: str,
    outcomes: Mapping[str, Outcome] | Sequence[Outcome],
    *,
    metric: str = "si_snri",
    hours: float = 0.0,
    **run: Any,
) -> None:
    """Write a run of a model for each recording.

    Args:
        db: The open database.
        model: ``demucs:4.0``; a run of it for each recording.
        outcomes: By the recording's path (a sequence stands for ``/mix/000.wav``, …): a value,
            None for none, ``"failed"`` or ``"unfinished"``, a list of stems, or a mapping of
            speakers to values.
        metric: What the values are.
        hours: When the runs began.
        run: Other columns of the history rows.
    """
    if not isinstance(outcomes, Mapping):
        outcomes = {f"/mix/{place:03}.wav": outcome for place, outcome in enumerate(outcomes)}
    with db.atomic():
        for path, outcome in outcomes.items():
            _write(db, model, recording(db, path), outcome, metric, hours, run)


def recording(db: DatabaseManager, path: str, **columns: Any) -> ProcessedFile:
    """Return the recording of a path, written where it is not there yet."""
    found = db.query(ProcessedFile).filter_by(original_path=path, recording=None).first()
    if found is None:
        found = db.add(ProcessedFile(filename=path.rpartition("/")[2], original_path=path))
    return db.update(found, **columns) if columns else found


def speaker(db: DatabaseManager, name: str, **columns: Any) -> Speaker:
    """Return the speaker of a name, written where it is not there yet."""
    found = db.query(Speaker).filter_by(name=name).first()
    return found if found is not None else db.add(Speaker(name=name, **columns))


def _write(
    db: DatabaseManager,
    model: str,
    source: ProcessedFile,
    outcome: Outcome,
    metric: str,
    hours: float,
    run: dict[str, Any],
) -> None:
    run_id = f"{next(_NUMBERS):032x}"
    history = {**_history(model, hours, run_id), **run}
    if isinstance(outcome, str):
        ended = {"success": False}
        if outcome == "unfinished":
            ended["end_time"] = None
        db.add(ProcessingHistory(processed_file=source, **{**history, **ended}))
        return
    stems = outcome if isinstance(outcome, Mapping) else dict.fromkeys([None], outcome)
    if isinstance(outcome, list | tuple):
        stems = dict(enumerate(outcome))
    for place, (name, value) in enumerate(stems.items()):
        stem = ProcessedFile(
            filename=f"{place}.wav",
            original_path=source.original_path,
            processed_path=f"/out/{run_id}_{place}.wav",
            recording=source,
            speaker=speaker(db, name) if isinstance(name, str) else None,
        )
        row = db.add(ProcessingHistory(processed_file=db.add(stem), **history))
        in_column = metric in METRIC_COLUMNS
        measured = {metric: value} if in_column else {"additional_metrics": {metric: value}}
        db.add(
            ModelPerformance(
                processing_history=row,
                model_type=row.model_type,
                model_version=row.model_version,
                **measured,
            )
        )


def _history(model: str, hours: float, run_id: str) -> dict[str, Any]:
    name, _, version = model.partition(":")
    start = START + dt.timedelta(hours=hours)
    return {
        "run_id": run_id,
        "operation_type": "voice_separation",
        "model_type": name,
        "model_version": version or None,
        "start_time": start,
        "end_time": start + dt.timedelta(seconds=2),
        "success": True,
    }
