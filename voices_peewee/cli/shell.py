"""Commands for the shell itself: ``list NOUN`` and completion."""

from __future__ import annotations

import click

from voices_peewee.cli import SECTIONS
from voices_peewee.cli.common import VoicesGroup, command, write

_LISTS = {
    heading: (module, {name.removeprefix("list-"): summaries[name] for name in lists})
    for heading, (module, summaries) in SECTIONS.items()
    if (lists := [name for name in summaries if name.startswith("list-")])
}

list_group = VoicesGroup(
    "list",
    sections=_LISTS,
    prefix="list_",
    help="List speakers, files, ...: the same as list-speakers, ....\n\n"
    "Every list takes the options of its other name.",
    subcommand_metavar="NOUN [ARGS]...",
)


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
