"""What every command shares: which database, how errors leave, how a question is asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from importlib import import_module
from io import TextIOWrapper
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.exceptions import NoArgsIsHelpError

from voices_peewee.errors import InputError, QueryError, ServerBackupError, VoicesError
from voices_peewee.rendering.plain import printable, speaks_unicode, wrapped

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from voices_peewee.db_manager import DatabaseManager

R = TypeVar("R")

_TOLD: Final = 20  # sentences of one kind: bad records, conflicts
_BROKEN_PIPE: Final = 141  # what a shell reports for a program that SIGPIPE ended
_INTERRUPTED: Final = 130
_TAKEN: Final = {"list", "import"}  # a function of that name would hide a builtin, or cannot be


class OutputError(VoicesError):
    """The standard output does not take what is written: its disk is full, say."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write the output: {(error.strerror or str(error)).lower()}")


def pass_manager(function: Callable[..., R]) -> Callable[..., R]:
    """Give a command the manager of its database as first argument, not connected yet."""

    @wraps(function)
    def with_manager(*args: Any, **kwargs: Any) -> R:
        options = click.get_current_context().ensure_object(dict)
        return function(_manager(options), *args, **kwargs)

    return with_manager


def _manager(options: Mapping[str, Any]) -> DatabaseManager:
    """Return the manager; Peewee loads no server's driver for a file, which takes 80 ms."""
    from voices_peewee.database.files import is_server

    is_needed = "peewee" in sys.modules or is_server(options.get("database") or "")
    hidden = {"psycopg", "psycopg2"}.difference(sys.modules) if not is_needed else set()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None refuses the import
    try:
        from voices_peewee.db_manager import DatabaseManager
    finally:
        for driver in hidden:
            del sys.modules[driver]
    return DatabaseManager(**options)


class _Helpful(click.Command):
    """A command whose help is output as any other: that it cannot be written is an error."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the words, or print the help that they ask for."""
        with output_errors():
            return super().make_context(*args, **kwargs)


class VoicesCommand(_Helpful):
    """A command with an example in its help, that takes ``--db`` after its name too."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.params.append(
            click.Option(["--db"], expose_value=False, hidden=True, callback=_set_database)
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; of two forms of output click would take the later without a word."""
        styles = [one.opts[0] for one in self.params if one.name == "style"]
        given = set(takewhile("--".__ne__, args))
        if len(named := [name for name in styles if name in given]) > 1:
            raise click.UsageError(f"{' and '.join(named)} are several forms; name one", ctx)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the example below the options."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a question that makes no sense is an error of usage."""
        try:
            return super().invoke(ctx)
        except QueryError as error:
            raise click.UsageError(error.in_shell, ctx) from error


def _set_database(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(dict)["database"] = value


command = partial(click.command, cls=VoicesCommand)


class VoicesGroup(_Helpful, click.Group):
    """A group that imports a command's module only when that command is asked for.

    ``sections`` has for each heading the module, and the commands in it with their summaries.
    """

    def __init__(
        self, *args: Any, sections: Mapping[str, tuple[str, Mapping[str, str]]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self._modules = {name: module for module, names in sections.values() for name in names}
        self._summaries = {
            name: text for _, names in sections.values() for name, text in names.items()
        }

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands in the order of the help."""
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, loading its module."""
        if cmd_name not in self._modules:
            return None
        module = import_module(f"voices_peewee.cli.{self._modules[cmd_name]}")
        name = cmd_name.replace("-", "_")
        found: click.Command = getattr(module, f"{name}_" if name in _TAKEN else name)
        found.help = found.help or self._summaries[cmd_name]  # python -OO has no docstrings
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the words name, or say which are near; ``list x`` is ``list-x``."""
        if args[0] == "list" and args[1:2] and not args[1].startswith("-"):
            args = [f"list-{args[1]}", *args[2:]]
        is_known = args[0] in self._modules or args[0].startswith("-")
        if not is_known and not ctx.resilient_parsing:
            error = QueryError.unknown_field(args[0], self._modules, "command")
            raise click.UsageError(str(error), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the commands under the headings of their sections."""
        width = max(map(len, self._modules))
        for heading, (_, summaries) in self.sections.items():
            rows = [(name.ljust(width), summary) for name, summary in summaries.items()]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what a word can become, without loading the commands."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=summary)
            for name, summary in self._summaries.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def main(  # type: ignore[override] # click has a second form, which never returns
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        *,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; here, and only here, an error becomes a message and an exit status."""
        if sys.stderr is None:
            sys.stderr = click.open_file(os.devnull, "w")
        try:
            _prepare_output()
            code = super().main(args, prog_name, standalone_mode=False, **extra) or 0
            with output_errors():
                sys.stdout.flush()
        except (VoicesError, click.UsageError, click.Abort, FileNotFoundError) as error:
            code = _told(error)
        return sys.exit(code) if standalone_mode else code


def _prepare_output() -> None:
    """The bytes of a path that is no text come back; what an encoding lacks is spelled."""
    if sys.stdout is None:
        raise OutputError(OSError("it is closed"))
    if isinstance(sys.stdout, TextIOWrapper):
        is_utf8 = speaks_unicode(sys.stdout)
        sys.stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")


def _told(error: Exception) -> int:
    """Say what went wrong; return the exit status that tells it."""
    if isinstance(error, click.Abort):
        click.echo("Aborted!", err=True)
        return _INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else 1
    if isinstance(error, click.UsageError):
        if not isinstance(error, NoArgsIsHelpError):  # that is the help
            # click repeats the user's words as they are
            lines = map(printable, error.format_message().replace("\n\t", " ").split("\n"))
            error = click.UsageError("\n".join(lines), error.ctx)
        error.show()
        return error.exit_code
    if isinstance(error, FileNotFoundError):
        if error.filename is not None:
            raise error
        # os.getcwd, which names no file
        say("Error: the working directory is gone; change into one that is there")
        return 1
    if isinstance(error, OutputError):
        _drop_output()
    if isinstance(error, InputError):
        say_some("bad", list(map(str, error.problems[1:])))  # the error says the first
    say(f"Error: {error}")
    return 1


@contextmanager
def output_errors() -> Iterator[None]:
    """Make an error of what cannot be written; a reader that goes away ends the program."""
    try:
        yield
    except BrokenPipeError:
        _drop_output()
        sys.exit(_BROKEN_PIPE)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OutputError(error) from error


def _drop_output() -> None:
    """Send what is still buffered nowhere, or Python complains about it when it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):  # the output is closed, or no file
        return


def confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal before something is lost; return only if the answer is yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this needs a confirmation; use --yes where nobody can be asked")
    click.confirm(printable(question), err=True, abort=True)


def backed_up(migrate: Callable[..., R], *, backup: bool, **options: Any) -> R:
    """Change the schema; ask where a server has to be backed up by its own tools."""
    try:
        return migrate(backup=backup, **options)
    except ServerBackupError as error:
        if not sys.stdin.isatty():
            raise
        say(str(error))
        confirm("Is that done, so that it can go on?", yes=False)
    return migrate(backup=False, **options)


@contextmanager
def progress_bar(
    label: str, *, hidden: bool = False
) -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that takes what is done and what in all; None where there is no terminal."""
    if hidden or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:

        def report(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(done - bar.pos)

        yield report


def say(*messages: str) -> None:
    """Write sentences for people to stderr, in lines that a terminal has room for."""
    for message in messages:
        for line in wrapped(printable(message), sys.stderr):
            click.echo(line, err=True)


def say_backup(manager: DatabaseManager) -> None:
    """Write to stderr where the database was backed up first, if it was."""
    if manager.upgrade_backup is not None:
        say(f"backed up first to {str(manager.upgrade_backup)!r}")


def say_exported(path: str | None) -> None:
    """Write to stderr where what is deleted now was written first."""
    if path is not None:
        say(f"what goes is in {path!r}")


def said(counts: Mapping[str, int]) -> str:
    """Return what there is any of: ``2 added, 1 failed``."""
    return ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)


def say_some(kind: str, sentences: Sequence[str], count: int = 0, *, many: str = "") -> None:
    """Write the first of many sentences to stderr, and how many more there are."""
    for sentence in sentences[:_TOLD]:
        say(f"{kind}: {sentence}")
    if (more := max(count, len(sentences)) - _TOLD) > 0:
        say(f"… and {more:,} more {many or kind}")


def plural(count: int, noun: str) -> str:
    """Return ``1 file`` or ``2,000 files``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def write(texts: Iterable[str]) -> None:
    """Write texts to the standard output."""
    for text in texts:
        with output_errors():
            sys.stdout.write(text)


def write_path(path: object, *, end: str = "\n") -> None:
    """Write a path: exactly for another program, harmless on a terminal."""
    write([printable(path) if sys.stdout.isatty() else str(path), end])
