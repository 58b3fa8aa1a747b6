"""What is raised, wherever it is caught."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from voices_peewee import errors

RAISED = [
    errors.DatabaseMissingError("a.db"),
    errors.DatabaseBusyError("a.db", 30),
    errors.PendingMigrationsError("a.db", ["001_initial"]),
    errors.NotFoundError("speaker", "Nobody"),
    errors.AmbiguousNameError("speaker", "Ada", [1, 2]),
    errors.InvalidValueError("a run needs an operation_type"),
    errors.QueryError.unknown_field("nam", ["name"]),
    errors.InputError("a.csv", "no number", place="line 3", column="duration"),
    errors.AudioError("a.wav", "it is empty"),
    errors.MissingExtraError("the p-value", "stats"),
]


def fail(number: int) -> None:
    raise RAISED[number]


def test_errors_come_out_of_worker_processes() -> None:
    """An error that a worker raises is the same in its parent, and the pool goes on."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        for number, error in enumerate(RAISED):
            with pytest.raises(type(error)) as caught:
                pool.submit(fail, number).result(timeout=60)
            assert (str(caught.value), vars(caught.value)) == (str(error), vars(error))
