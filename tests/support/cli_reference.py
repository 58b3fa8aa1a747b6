"""Writes docs/cli.md from the commands' own help: ``python tests/support/cli_reference.py``."""

from __future__ import annotations

from pathlib import Path

from voices_peewee.cli import cli

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"

INTRODUCTION = """\
# Command line

<!-- Written by tests/support/cli_reference.py from the commands' own help; do not edit. -->

Data go to stdout; counts, questions, progress and errors go to stderr. The exit status is 0
when all went well, 1 for an error or a check that says no, and 2 for a command line that makes
no sense. Ctrl-C ends a command with 130.

Every `list-NOUN` can be written `list NOUN`. What is shown in a table is rounded and shortened
for people (times are UTC); `--json`, `--jsonl` and `--csv` are exact, and have every column of
the table. Text that could command a terminal is spelled out, and text that a spreadsheet would
run is quoted in CSV unless `--raw` is given.
"""


def reference() -> str:
    """Return the page: the help of the program and of every command."""
    root = cli.make_context("voices", [], resilient_parsing=True, terminal_width=80)
    parts = [INTRODUCTION, "\n", _block(cli.get_help(root))]
    for heading, (_, names) in cli.sections.items():
        parts.append(f"\n## {heading}\n")
        for name in names:
            command = cli.get_command(root, name)
            assert command is not None
            context = command.make_context(name, [], parent=root, resilient_parsing=True)
            parts += [f"\n### {name}\n\n", _block(command.get_help(context))]
    return "".join(parts)


def _block(text: str) -> str:
    return f"```text\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
