"""How long a command takes to start, in units of ``python -c pass``.

All of them, the unit too, start in an environment without ``.pth`` files: what these load would
make the unit long and the ratios small.
"""

from __future__ import annotations

import compileall
import os
import statistics
import subprocess
import sys
import time
import venv
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


def measure(database: Path, rounds: int) -> dict[str, float]:
    """Return the median time (s) of each command, run by turns."""
    bare = database.with_name("bare")
    venv.create(bare, symlinks=True)
    compileall.compile_dir(Path(voices_peewee.__file__).parent, quiet=1)  # as an installed one is
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, (arguments, _goal) in COMMANDS.items():
            environment = {
                **os.environ,
                "VOICES_DB": str(database),
                "PYTHONPATH": os.pathsep.join(map(str, _PATHS)),
            }
            if name.endswith("TAB"):
                environment |= {
                    "_VOICES_COMPLETE": "zsh_complete",
                    "COMP_WORDS": "voices list-",
                    "COMP_CWORD": "1",
                }
            start = time.perf_counter()
            command = [str(bare / "bin" / "python"), *arguments]
            subprocess.run(command, env=environment, capture_output=True, check=True)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}
