"""``voices status --watch``: one line that moves on a terminal, elsewhere lines of what is new."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterable
from dataclasses import asdict
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Final

from voices_peewee.cli.common import write
from voices_peewee.rendering.json_csv import json_text
from voices_peewee.rendering.plain import fit, printable

if TYPE_CHECKING:
    from voices_peewee.questions.watching import Progress

_NAMED: Final = 3  # processes
_BACK: Final = "\r\x1b[K"


def show_watch(looks: Iterable[Progress], *, as_json: bool) -> None:
    """Write how a batch gets on until nothing is left."""
    before = ""
    on_terminal = sys.stdout.isatty() and not as_json
    try:
        for look in looks:
            line = json_text(asdict(look)) if as_json else printable(_sentence(look))
            if line == before:
                continue
            room = get_terminal_size().columns - 1
            write([f"{_BACK}{fit(line, room, 'start')}" if on_terminal else f"{line}\n"])
            sys.stdout.flush()
            before = line
    finally:
        if on_terminal and before:
            write(["\n"])


def _sentence(look: Progress) -> str:
    """Return how far a batch is, as ``12 of 400 done, 3 failed, 2 running, …; host:17, …``."""
    total = look.done + look.failed + look.died + look.left
    parts = [f"{look.done:,} of {total:,} done", f"{look.failed:,} failed"]
    running = {"running": look.left - look.waiting, "of dead processes": look.died}
    counts = {**running, "waiting": look.waiting}
    parts += [f"{count:,} {state}" for state, count in counts.items() if count]
    if look.rate is not None:
        parts.append(f"{look.rate:,.0f} an hour" if look.rate >= 1 else "less than 1 an hour")
    if look.seconds_left:
        parts.append(f"{dt.timedelta(seconds=round(look.seconds_left))} left")
    names = [name if count == 1 else f"{name} {count:,}" for name, count in look.running.items()]
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    # Who runs stands last, since a narrow terminal cuts it.
    return ", ".join(parts) + (f"; {', '.join(names[:_NAMED])}{more}" if names else "")
