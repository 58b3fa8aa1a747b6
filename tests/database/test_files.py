"""Where a file lies, and what that means for those who use it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli_tools import run

from voices_peewee.database import files

MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /home rw shared:9 master:1 - nfs4 filer:/home rw,vers=4.2
41 40 0:36 / /home/ada/my\040disk rw - ext4 /dev/sdb1 rw
42 22 0:37 / /work rw - fuse.sshfs ada@host:/ rw
"""


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the system says is mounted."""
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    monkeypatch.setattr(files, "_MOUNTS", path)
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/voices.db", None),
        ("/home/ada/voices.db", "nfs4"),
        ("/home/ada/my disk/voices.db", None),
        ("/work/voices.db", "fuse.sshfs"),
        (":memory:", None),
        ("postgresql://host/work", None),
    ],
)
def test_a_network_file_system_is_known(mounts: Path, path: str, kind: str | None) -> None:
    """The file system is that of the innermost mount that a file lies in."""
    assert mounts.is_file()
    assert files.network_file_system(path) == kind


@pytest.mark.sqlite("a server's files are its own")
def test_init_and_check_say_that_the_file_is_on_a_network(mounts: Path, tmp_path: Path) -> None:
    """Where the file is on a network file system, init says so and check has a note."""
    mounts.write_text(f"{MOUNTS}50 22 0:38 / {tmp_path.resolve()} rw - nfs4 filer:/x rw\n")
    place = tmp_path / "voices.db"
    said = "the file is on a network file system (nfs4), where one machine at a time may use it"
    advice = "for several, use a server: docs/postgresql.md"
    done = run("--db", place, "init")
    assert (done.code, done.out) == (0, f"{place}\n")
    assert done.err.splitlines()[-1] == f"{said}; {advice}"
    done = run("--db", place, "check")
    assert done.code == 0
    assert said in done.out
