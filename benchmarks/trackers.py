"""An experiment tracker, where it is installed: a run with parameters and metrics."""

from __future__ import annotations

import importlib
import logging
import os
from pathlib import Path
from typing import Any

from benchmarks.data import Record

_METRICS = ("si_snri", "sdri", "cpu_usage", "memory_usage", "processing_time", "real_time_factor")


def _parameters(file: Record, history: Record) -> Record:
    names = ("operation_type", "model_type", "model_version")
    return {"file": file["original_path"], **{name: history[name] for name in names}}


class MLflow:
    """An MLflow run in an SQLite store, without a server."""

    name = "MLflow"
    stores_rows = False
    sample = 20  # runs; the others would take minutes

    def __init__(self) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        logging.getLogger("alembic").setLevel(logging.ERROR)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        for needed in ("sqlalchemy", "alembic"):
            importlib.import_module(needed)
        self.mlflow: Any = importlib.import_module("mlflow")

    def open(self, path: Path) -> None:
        store = path.with_name("mlflow.db")
        self.mlflow.set_tracking_uri(f"sqlite:///{store}")
        os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = str(path.with_name("mlflow"))
        if self.mlflow.get_experiment_by_name("separation") is None:
            self.mlflow.create_experiment("separation", str(path.with_name("mlflow")))
        self.mlflow.set_experiment("separation")

    def close(self) -> None:
        """Nothing is held open."""

    def record_runs(self, runs: list[tuple[Record, Record, Record]]) -> None:
        for file, history, performance in runs:
            with self.mlflow.start_run():
                self.mlflow.log_params(_parameters(file, history))
                self.mlflow.log_metrics({name: performance[name] for name in _METRICS})
