"""Experiment trackers, where they are installed: a run with parameters and metrics."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import tempfile
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


class Trackio:
    """A trackio run, in its local store."""

    name = "trackio"
    stores_rows = False
    sample = 20

    def __init__(self) -> None:
        os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio")
        self.trackio: Any = importlib.import_module("trackio")

    def open(self, path: Path) -> None:
        """Its folder is chosen when it is imported."""

    def close(self) -> None:
        """Nothing is held open."""

    def record_runs(self, runs: list[tuple[Record, Record, Record]]) -> None:
        for file, history, performance in runs:
            with contextlib.redirect_stdout(io.StringIO()):
                self.trackio.init(project="separation", config=_parameters(file, history))
                self.trackio.log({name: performance[name] for name in _METRICS})
                self.trackio.finish()
