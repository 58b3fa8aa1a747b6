"""How bash and fish ask what the TAB key completes, where click's own way loses words."""

from __future__ import annotations

import os
import re
from functools import reduce
from typing import Final

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    add_completion_class,
    split_arg_string,
)

_UNSAFE: Final = re.compile(r"[^\w@%+=:,./^-]")
# What click's script says, and what keeps words whole that hold ``:``, ``=``, blanks or ``\\``.
_BASH: Final = {
    'COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD': (
        'COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS"'
    ),
    "read type value": "read -r type value",
    "COMPREPLY+=($value)": 'COMPREPLY+=("$value"); [[ $value == *: ]] && compopt -o nospace',
}


class VoicesBash(BashComplete):
    """Click's completion for bash, which also knows words with ``:``, ``=`` and spaces.

    Bash breaks a word at the first two and wants back what comes behind them, and inserts what
    it gets as it is. So its script hands over the line.
    """

    source_template = reduce(
        lambda script, one: script.replace(*one), _BASH.items(), BashComplete.source_template
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the one that is being written."""
        self._line = os.environ["COMP_LINE"]
        *args, last = split_arg_string(f"{self._line}.")  # the dot: there is always a last word
        self._start = last[:-1]
        return args[1:], self._start

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return a value as it goes into the line behind what bash leaves there."""
        if item.type != "plain":
            return super().format_completion(item)
        option, equals, _ = self._start.partition("=")
        whole = f"{option}={item.value}" if equals and option.startswith("-") else item.value
        if self._line.count('"') % 2 or self._line.count("'") % 2:
            return f"plain,{whole}"  # inside quotes bash breaks no word
        breaks = [sign for sign in os.environ.get("COMP_WORDBREAKS", ":=") if sign in ":="]
        kept = max((self._start.rfind(sign) + 1 for sign in breaks), default=0)
        return "plain," + _UNSAFE.sub(lambda match: f"\\{match[0]}", whole[kept:])


class VoicesFish(FishComplete):
    """Click's completion for fish, whose values may hold a comma."""

    source_template = FishComplete.source_template.replace(
        'string split ","', 'string split -m 1 ","'
    )


def prepare_shells() -> None:
    """Let click use these for bash and fish."""
    add_completion_class(VoicesBash)
    add_completion_class(VoicesFish)
