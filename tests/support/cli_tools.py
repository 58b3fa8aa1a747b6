"""How the tests call the command line: in this process, as a program, and on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from voices_peewee.cli import cli

PROGRAM = (sys.executable, "-m", "voices_peewee")


class Outcome(NamedTuple):
    """What a command did: its exit status and both streams."""

    code: int
    out: str
    err: str


def run(*args: str | Path) -> Outcome:
    """Call the command line in this process; an unknown error keeps its traceback."""
    result = CliRunner().invoke(cli, [str(arg) for arg in args], prog_name="voices")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def usage(command: str, arguments: str, message: str) -> str:
    """Return what stderr says about a command line that makes no sense."""
    return f"Usage: {command} {arguments}\nTry '{command} --help' for help.\n\nError: {message}\n"


def program(*args: str | Path, **options: object) -> Outcome:
    """Run the program with pipes."""
    done = subprocess.run(
        [*PROGRAM, *map(str, args)], capture_output=True, text=True, timeout=60, **options
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def terminal(
    *args: str | Path, columns: int = 80, typed: str = "", env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run the program on a terminal of a width; return its status and all that is seen."""
    pid, master = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        kept |= {"TERM": "xterm-256color", **(env or {})}
        os.execve(sys.executable, [*PROGRAM, *map(str, args)], kept)  # noqa: S606 - after pty.fork
    seen = b""
    while True:
        if not select.select([master], [], [], 120)[0]:
            os.kill(pid, signal.SIGKILL)  # it waits for what nobody types
        try:
            block = os.read(master, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            break
        if not block:
            break
        seen += block
        if typed and seen.endswith(b"]: "):  # the question has been asked
            os.write(master, typed.encode())
            typed = ""
    os.close(master)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), seen.decode().replace("\r\n", "\n")
