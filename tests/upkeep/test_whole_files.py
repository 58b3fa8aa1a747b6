"""A file appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from voices_peewee.errors import ExportError
from voices_peewee.upkeep.whole_files import file_errors, whole_file

# Opens an unfinished file, says so and waits for ever.
HANG = """
import sys, time
from voices_peewee.upkeep.whole_files import whole_file
with whole_file(sys.argv[1]) as partial:
    partial.write_text("half")
    print(partial.name, flush=True)
    time.sleep(600)
"""


def hang(target: Path, *before: str) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that is in the middle of writing ``target``."""
    process = subprocess.Popen(
        [*before, sys.executable, "-c", HANG, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, target.with_name(process.stdout.readline().strip())


def end(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate()


def write(target: Path, text: str, error: BaseException) -> None:
    """Write half of a file over what is there, and fail."""
    with whole_file(target, overwrite=True) as partial:
        partial.write_text(text)
        raise error


def write_beside(target: Path, theirs: str) -> None:
    """Write a file whose name somebody else takes meanwhile."""
    with whole_file(target) as partial:
        partial.write_text("mine")
        target.write_text(theirs)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    """While the block runs the name is free; afterwards the folder holds that file alone."""
    target = tmp_path / "made.txt"
    with whole_file(target) as partial:
        partial.write_text("whole")
        assert partial.parent == tmp_path
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    """An error inside the block leaves the folder as it was, also what was to be replaced."""
    target = tmp_path / "made.txt"
    target.write_text("before")
    with pytest.raises(KeyboardInterrupt):
        write(target, "half", KeyboardInterrupt())
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_name_that_is_taken_is_refused_at_once(tmp_path: Path) -> None:
    """Without overwrite the block does not even begin; with it the file is replaced."""
    target = tmp_path / "made.txt"
    target.symlink_to("nowhere")
    began = False
    with pytest.raises(FileExistsError), whole_file(target):
        began = True
    assert not began
    with whole_file(target, overwrite=True) as partial:
        partial.write_text("new")
    assert target.read_text() == "new"
    assert not target.is_symlink()


def test_a_name_that_is_taken_meanwhile_is_kept(tmp_path: Path) -> None:
    """A file that somebody else placed while the block ran is not replaced."""
    target = tmp_path / "made.txt"
    with pytest.raises(FileExistsError):
        write_beside(target, "theirs")
    assert target.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_for_its_owner_unless_said_otherwise(tmp_path: Path) -> None:
    """The permissions are 0600; a mode that is given is subject to the umask."""
    before = os.umask(0o022)
    try:
        with whole_file(tmp_path / "own"):
            pass
        with whole_file(tmp_path / "shared", mode=0o666):
            pass
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"own": 0o600, "shared": 0o644}


def test_left_overs_of_killed_programs_go(tmp_path: Path) -> None:
    """The next file in a folder removes what a killed program left, and nothing of a live one."""
    killed, left = hang(tmp_path / "a.txt")
    running, used = hang(tmp_path / "b.txt")
    try:
        end(killed)
        journal = left.with_name(left.name + "-journal")
        journal.touch()
        with whole_file(tmp_path / "c.txt"):
            pass
        assert (left.exists(), journal.exists(), used.exists()) == (False, False, True)
    finally:
        end(running)


def test_another_container_of_that_host_name_keeps_its_file(tmp_path: Path) -> None:
    """Where a process id means another process, only what nobody wrote for a day is removed."""
    inside = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], check=False).returncode:
        pytest.skip("no process namespaces here")
    process, used = hang(tmp_path / "a.txt", *inside)
    try:
        with whole_file(tmp_path / "b.txt"):
            pass
        assert used.exists()
        old = time.time() - 90_000
        os.utime(used, (old, old))
        with whole_file(tmp_path / "c.txt"):
            pass
        assert not used.exists()
    finally:
        end(process)


def test_a_file_system_without_links_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where names cannot be linked, as on a USB stick, the file is placed all the same."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "made.txt"
    with whole_file(target) as partial:
        partial.write_text("whole")
    assert target.read_text() == "whole"
    with pytest.raises(FileExistsError), whole_file(target):
        pass


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("there.txt", "it is there already; choose another name"),
        ("no/file.txt", "it cannot be read or written (no such file or directory)"),
    ],
)
def test_refusals_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    """What the system refuses becomes a sentence about the file that was to be written."""
    monkeypatch.chdir(tmp_path)
    Path("there.txt").touch()
    with pytest.raises(ExportError) as raised, file_errors(ExportError, Path(name)):  # noqa: SIM117
        with whole_file(name):
            pass
    assert str(raised.value) == f"export {name!r}: {reason}"
