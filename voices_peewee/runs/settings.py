"""What is done in a run: operation, model, version and parameters."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voices_peewee.errors import InvalidValueError
from voices_peewee.runs.process import process_facts
from voices_peewee.schema.fields import dump_json


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same in all rows of a run."""

    operation_type: str
    model_type: str | None
    model_version: str | None
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        """The model with its version, else the operation."""
        return name_of(self.operation_type, self.model_type, self.model_version)

    def history(
        self, run_id: str, start_time: dt.datetime, source_hash: str | None
    ) -> dict[str, Any]:
        """Return what is the same in all history rows of a run."""
        return {
            "run_id": run_id,
            "operation_type": self.operation_type,
            "model_type": self.model_type,
            "model_version": self.model_version,
            "parameters": self.parameters,
            "start_time": start_time,
            "source_hash": source_hash,
            "process": process_facts(),
        }


def plain_parameters(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a JSON copy of the parameters, which later changes do not reach.

    Raises:
        InvalidValueError: They are no mapping or have no JSON form.
    """
    if parameters is not None and not isinstance(parameters, Mapping):
        raise InvalidValueError(f"parameters must be a mapping, not {parameters!r}")
    plain: dict[str, Any] = json.loads(dump_json(dict(parameters or {})))
    return plain


def name_of(operation: str, model: str | None, version: str | None) -> str:
    """Return a model with its version, else the operation."""
    return ":".join(map(str, filter(None, (model, version)))) or operation
