"""In which surroundings a run happens: Python, host and git commit."""

from __future__ import annotations

import math
import os
import time
from functools import cache
from pathlib import Path
from typing import Any, Final

from voices_peewee._version import __version__

_GIT_TIMEOUT: Final = 2.0
_GIT_FRESH: Final = 30.0


def environment() -> dict[str, Any]:
    """Return Python, host, platform, this package's version and the working directory's commit.

    ``git`` holds ``commit`` and ``dirty`` (whether tracked files differ from it); it is missing
    where there is no repository, no commit or no git.
    """
    git = _git()
    return {**_fixed_environment(), **({"git": git} if git else {})}


@cache
def _fixed_environment() -> dict[str, Any]:
    import platform

    return {
        "python": platform.python_version(),
        "host": os.uname().nodename,
        "platform": platform.platform(),
        "voices_peewee": __version__,
    }


_git_seen: dict[str, tuple[float, dict[str, Any] | None]] = {}


def _git() -> dict[str, Any] | None:
    """Return the commit at work; what was seen less than half a minute ago is believed."""
    try:
        directory = str(Path.cwd())
    except OSError:
        return None
    now = time.monotonic()
    when, facts = _git_seen.get(directory, (-math.inf, None))
    if now - when >= _GIT_FRESH:
        facts = _ask_git(directory)
        _git_seen[directory] = (now, facts)
    return facts


def _ask_git(directory: str) -> dict[str, Any] | None:
    import shutil
    import subprocess

    git = shutil.which("git")
    if git is None:
        return None
    # A repository's own configuration must not make us run its fsmonitor program.
    words = [git, "-c", "core.fsmonitor=false", "status"]
    words += ["--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules"]
    try:
        answer = subprocess.run(  # noqa: S603 - fixed words, no shell
            words,
            cwd=directory,
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
