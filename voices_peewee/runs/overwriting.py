"""Whether an output takes the place of another run's, and whether that was said before."""

from __future__ import annotations

import json
from typing import Final
from weakref import WeakKeyDictionary

from voices_peewee.database.store import Store
from voices_peewee.runs.process import is_alive, is_here
from voices_peewee.runs.settings import name_of
from voices_peewee.schema.models import ProcessedFile

_OTHER_RUN: Final = """SELECT history.run_id, history.operation_type, history.model_type,
 history.model_version, history.success, history.process
 FROM processed_files AS file JOIN processing_history AS history
 ON history.processed_file_id = file.id
 JOIN model_performance AS told ON told.processing_history_id = history.id
 WHERE file.processed_path = ? AND history.run_id <> ?
 AND (history.success OR history.end_time IS NULL)
 ORDER BY history.success DESC, history.id DESC LIMIT 1"""

# Of which models it was said that their outputs are written over: once is enough for a batch.
_said: WeakKeyDictionary[Store, set[tuple[str, str]]] = WeakKeyDictionary()


class OutputWarning(UserWarning):
    """An output path is another run's too; it is said once for each pair of models."""


def other_run(store: Store, path: str, run_id: str, model: str) -> str | None:
    """Name another run that has an output at a path, unless that was said of its model."""
    found = _claimed(store, path, run_id)
    if found is None:
        return None
    other, its_model = found
    said = _said.setdefault(store, set())
    if (model, its_model) in said:
        return None
    said.add((model, its_model))
    return f"{other} ({its_model})"


def _claimed(store: Store, path: str, run_id: str) -> tuple[str, str] | None:
    """Return another run, successful or going on, of an output, and its model."""
    stored = ProcessedFile.processed_path.db_value(path)
    found = store.connection().execute(_OTHER_RUN, (stored, run_id)).fetchone()
    if found is None:
        return None
    other, operation, model, version, success, recorder = found
    facts = json.loads(recorder or "{}")
    if not success and is_here(facts) and not is_alive(facts):
        return None  # it died: to do its work again is no surprise
    return other, name_of(operation, model, version)
