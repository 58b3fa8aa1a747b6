"""The examples in the docstrings of the public face run."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

DOORS = ("voices_peewee", "voices_peewee.db_manager")


@pytest.mark.parametrize("name", DOORS)
def test_examples_of_docstrings_run(name: str) -> None:
    """What a docstring of the door shows is what happens."""
    found = doctest.testmod(import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
