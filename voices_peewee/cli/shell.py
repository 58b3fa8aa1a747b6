"""Commands for the shell itself: ``list NOUN`` and completion."""

from __future__ import annotations

import click

from voices_peewee.cli import SECTIONS
from voices_peewee.cli.common import command, write

_NOUNS = [
    name.removeprefix("list-")
    for _, summaries in SECTIONS.values()
    for name in summaries
    if name.startswith("list-")
]


@command(example="voices list files duration:2..")
@click.argument("noun", type=click.Choice(_NOUNS), metavar="NOUN")
def list_(noun: str) -> None:
    """List speakers, files, ...: the same as list-speakers, ....

    NOUN is speakers, files, history, performance, tags, backups or migrations; what follows it
    are the words and options of the other name.
    """
    raise click.UsageError(f"{noun!r} stands right after 'list'")


@command(example="voices completion bash")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script for the TAB key of a shell.

    \b
    bash: echo 'eval "$(voices completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(voices completion zsh)"' >> ~/.zshrc
    fish: voices completion fish > ~/.config/fish/completions/voices.fish
    """
    from click.shell_completion import get_completion_class

    from voices_peewee.cli.shells import prepare_shells

    prepare_shells()
    root = click.get_current_context().find_root().command
    if found := get_completion_class(shell):
        write([found(root, {}, "voices", "_VOICES_COMPLETE").source(), "\n"])
