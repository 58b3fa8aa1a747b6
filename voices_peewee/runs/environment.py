"""Where a run is made: one row of the record for all runs that are made in the same."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from voices_peewee._version import __version__
from voices_peewee.database.query import Mapper
from voices_peewee.schema.fields import dump_json, utc_now
from voices_peewee.schema.models import ProcessingHistory

SWITCH: Final = "VOICES_ENVIRONMENT"
_GIT_TIMEOUT: Final = 2.0  # s
_SLURM: Final = ("job_id", "array_job_id", "array_task_id")


class Surroundings(NamedTuple):
    """What is known of where this process works, as it is stored, with the digest of that."""

    facts: dict[str, Any]
    text: str
    digest: str
    seen_at: str


def surroundings() -> Surroundings | None:
    """Return Python, host, platform, this package's version, git, torch and the Slurm job.

    It is asked for once a process, and again when torch is loaded or begins to use a device.
    ``git`` holds ``commit`` and ``dirty`` (whether tracked files differ from it); it is missing
    where there is no repository, no commit or no git. None where ``$VOICES_ENVIRONMENT=0``
    leaves all out.
    """
    return None if os.environ.get(SWITCH) == "0" else _surroundings(_torch())


@cache
def _surroundings(torch: tuple[str, str | None] | None) -> Surroundings:
    slurm = {name: os.environ.get(f"SLURM_{name.upper()}") for name in _SLURM}
    parts = {
        "git": _git(),
        "torch": None if torch is None else dict(zip(("version", "device"), torch, strict=True)),
        "slurm": {name: value for name, value in slurm.items() if value},
    }
    facts = {
        "python": platform.python_version(),
        "host": platform.node(),
        "platform": platform.platform(),
        "voices_peewee": __version__,
        **{name: part for name, part in parts.items() if part},
    }
    text, seen_at = dump_json(facts), utc_now().isoformat(" ", "microseconds")
    return Surroundings(facts, text, hashlib.sha256(text.encode()).hexdigest(), seen_at)


@cache
def beginning(rows: Mapper[ProcessingHistory]) -> tuple[str, int]:
    """Return how to insert a history row, and which of the values names its environment."""
    names = rows.names[1:]
    values = dict.fromkeys(names, "?")
    values["environment"] = "(SELECT id FROM environments WHERE digest = ?)"
    row = ", ".join(values.values())
    sql = f"INSERT INTO processing_history ({rows.columns}) VALUES ({row}){rows.returning}"  # noqa: S608
    return sql, names.index("environment")


def _torch() -> tuple[str, str | None] | None:
    """Return the version of a loaded torch, and the device that it has begun to use."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return None
    try:
        device = torch.cuda.get_device_name() if torch.cuda.is_initialized() else None
        return str(torch.__version__), device
    except Exception:  # noqa: BLE001 - foreign code, which may be half loaded
        return None


@cache
def _git() -> dict[str, Any] | None:
    """Return the commit of the working directory."""
    import subprocess

    # A repository's own configuration must not make us run its fsmonitor program.
    words = ["git", "-c", "core.fsmonitor=false", "status"]
    words += ["--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules"]
    try:
        answer = subprocess.run(  # noqa: S603 - fixed words, no shell
            words,
            cwd=Path.cwd(),
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_TIMEOUT,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.splitlines()
    commit = next((line.split()[2] for line in lines if line.startswith(b"# branch.oid ")), b"")
    if len(commit) < 40:  # "(initial)": nothing was committed yet
        return None
    return {
        "commit": commit.decode("ascii"),
        "dirty": any(not line.startswith(b"#") for line in lines),
    }
