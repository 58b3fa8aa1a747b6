"""How long a command takes to start, in units of ``python -c pass``.

All of them, the unit too, start in an environment without ``.pth`` files: what these load would
make the unit long and the ratios small. Modules are compiled, as an installed package's are.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Final

import voices_peewee

# Where a .pth file says so, packages lie elsewhere than in this environment's own folder.
_PATHS: Final = (
    Path(voices_peewee.__file__).parent.parent,
    *(path for path in sys.path if path.endswith("-packages")),
)
_VOICES: Final = ("-c", "from voices_peewee.__main__ import main; main()")  # as the script does
COMMANDS: Final[dict[str, tuple[tuple[str, ...], float | None]]] = {
    "python -c pass": (("-c", "pass"), None),
    "import peewee": (("-c", "import peewee"), None),
    "import click": (("-c", "import click"), None),
    "import voices_peewee": (("-c", "import voices_peewee"), None),
    "from voices_peewee import DatabaseManager": (
        ("-c", "from voices_peewee import DatabaseManager"),
        None,
    ),
    "voices --version": ((*_VOICES, "--version"), 5),
    "voices --help": ((*_VOICES, "--help"), 5),
    "voices, TAB": (_VOICES, 5),
    "voices list-speakers --json": ((*_VOICES, "list-speakers", "--json"), 9),
}


def children() -> float:
    """Return the CPU time (s) of the programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(database: Path, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the median time (s) of each command, run by turns; the first round compiles."""
    bare = database.with_name("bare")
    venv.create(bare, symlinks=True)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, (arguments, _goal) in COMMANDS.items():
            start = clock()
            command = [str(bare / "bin" / "python"), *arguments]
            environment = _environment(database, name)
            subprocess.run(command, env=environment, capture_output=True, check=True)
            if turn:
                times[name].append(clock() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def _environment(database: Path, name: str) -> dict[str, str]:
    """Return a command's environment; whatever this program's is, modules are compiled."""
    usual = {name: one for name, one in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    usual |= {"VOICES_DB": str(database), "PYTHONPATH": os.pathsep.join(map(str, _PATHS))}
    if not name.endswith("TAB"):
        return usual
    asked = {"_VOICES_COMPLETE": "zsh_complete", "COMP_WORDS": "voices list-", "COMP_CWORD": "1"}
    return usual | asked
