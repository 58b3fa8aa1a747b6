"""What a system lacks that is not POSIX is left out: the package works without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sqlite("it is about what the package asks of the system")

HIDING = """
import os, signal, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in ("resource", "fcntl", "termios", "pwd", "grp"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
for module, names in {
    os: "fork register_at_fork uname getuid geteuid O_NONBLOCK O_NOCTTY O_CLOEXEC",
    signal: "SIGKILL SIGALRM",
}.items():
    for name in names.split():
        delattr(module, name)
"""
WORK = """
from pathlib import Path
from voices_peewee import DatabaseManager, ModelPerformance
from voices_peewee.runs import meter

meter._STATUS = meter._CLEAR_REFS = "/nowhere"
with DatabaseManager(sys.argv[1]).initialize() as db:
    db.create_speaker("Ada")
    Path(sys.argv[2]).write_bytes(b"RIFF\\n")
    with db.track(sys.argv[2], "separation", speaker="Ada") as run:
        run.output(sys.argv[2] + ".out.wav", si_snri=1.5)
    (cost,) = db.get_all(ModelPerformance)
    print(cost.memory_usage, cost.processing_time > 0, cost.cpu_usage is not None)
    print(db.list_rows("files").total, db.close_unfinished(), db.status()["unfinished"])
    print(db.verify_backup(db.backup_database(sys.argv[3])).rows["processing_history"])
from voices_peewee.cli import cli
cli(["--db", sys.argv[1], "list-history", "--csv", "--columns", "operation,status"])
"""


def test_the_package_works_where_posix_is_missing(tmp_path: Path) -> None:
    """Without resource, fcntl, fork and the like: init, track, list and backup, one sentence."""
    names = [tmp_path / name for name in ("voices.db", "a.wav", "copy.db")]
    command = [sys.executable, "-c", HIDING + WORK, *map(str, names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == (
        "None True True\n2 0 0\n1\noperation_type,status\nseparation,success\n"
    ), done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert sentence.endswith(
        "UserWarning: this system does not tell the peak memory of a run, nor the CPU time of "
        "its child processes: both are left out"
    )
