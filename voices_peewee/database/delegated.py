"""A method that is a function of an open database; goes when every room has real methods."""

from __future__ import annotations

from importlib import import_module
from types import MethodType
from typing import Any


class Delegated:
    """A method that is a function of a room, found when it is asked for."""

    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def __get__(self, manager: Any, owner: type[Any]) -> Any:
        module, name = self._place
        function = getattr(import_module(f"voices_peewee.{module}"), name)
        return function if manager is None else MethodType(function, manager.store)
