"""Who may import whom, and what an import costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import voices_peewee
from voices_peewee import DatabaseManager, ProcessedFile

PACKAGE = Path(voices_peewee.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "click",
    "rich",
    "peewee_migrate",
    "av",
    "scipy",
    "numpy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "datasette",
    "fractions",
    "voices_peewee.database.postgres",
}

# Lower floors first: a room imports only from itself and from lower floors.
FLOORS = [
    {"_version", "errors"},
    {"rendering"},
    {"schema"},
    {"database"},
    {"records", "search", "migrations"},
    {"runs", "upkeep"},
    {"questions", "exchange", "lifecycle"},
    {"display"},
    {"models", "db_manager"},
    {"cli"},
    {"__main__"},
]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return a module's first name below the package: ``cli`` for all of the command line."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports when it runs, late imports included."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "voices_peewee":
            found |= {f"voices_peewee.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def floor(name: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if name in names)


def test_imports_go_down_only() -> None:
    """A module imports only from its own room or from a lower floor."""
    up = []
    for path in modules():
        own = name_of(path)
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("voices_peewee.")}
        ours -= {own} | set(voices_peewee.__all__) - {"errors"}
        if own != "__init__":
            up += [f"{path}: {name}" for name in ours if floor(name) >= floor(own)]
    assert up == []


def test_the_command_line_knows_no_sql() -> None:
    """The command line imports neither Peewee nor sqlite3."""
    named = {
        name.split(".")[0] for path in (PACKAGE / "cli").glob("*.py") for name in imports(path)
    }
    assert named & {"peewee", "sqlite3", "playhouse"} == set()


def test_the_map_is_the_house() -> None:
    """The map names each room and module of the first level, and stands in both pages as it is."""
    document = voices_peewee.__doc__
    assert document is not None
    lines = [line for line in document.splitlines() if re.match(r"    \S+(/|\.py) ", line)]
    mapped = {line.split()[0].removesuffix("/").removesuffix(".py") for line in lines}
    there = {name_of(path) for path in modules()} - {"migration_files"}  # the wheel's migrations
    assert mapped == there - {"__init__", "__main__", "_version", "models"}
    floors = [floor(line.split()[0].removesuffix("/").removesuffix(".py")) for line in lines]
    assert floors == sorted(floors, reverse=True)
    for page in ("CONTRIBUTING.md", "docs/architecture.md"):
        assert "\n".join(lines) in (ROOT / page).read_text("utf-8"), page


def test_the_pages_of_the_house_name_files_that_are_there() -> None:
    """Each file to which architecture.md and CONTRIBUTING.md send a reader can be opened."""
    text = "".join(
        (ROOT / page).read_text("utf-8") for page in ("CONTRIBUTING.md", "docs/architecture.md")
    )
    named = set(re.findall(r"`((?:\w+/)+\w+\.(?:py|js|html))`", text))
    homes = (PACKAGE, ROOT, ROOT / "tests")
    assert [name for name in named if not any((home / name).exists() for home in homes)] == []
    assert len(named) > 50


def test_modules_are_short() -> None:
    """A module has at most 420 lines; a migration says all in one file."""
    own = [path for path in modules() if name_of(path) != "migration_files"]  # the wheel's
    assert [path for path in own if len(path.read_text("utf-8").splitlines()) > 420] == []


def test_migrations_are_frozen() -> None:
    """A migration file imports nothing of the package."""
    from voices_peewee.migrations.runner import package_directory

    for path in package_directory().glob("[0-9]*.py"):
        assert not any(name.startswith("voices_peewee") for name in imports(path)), path.name


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import voices_peewee", HEAVY | {"peewee"}),
        ("import voices_peewee; voices_peewee.DatabaseManager", HEAVY),
        ("import voices_peewee; voices_peewee.DatabaseManager(':memory:')", HEAVY),
        ("import voices_peewee.cli", HEAVY - {"click"} | {"peewee"}),
    ],
)
def test_imports_stay_light(code: str, unwanted: set[str]) -> None:
    """Importing the package loads neither click nor peewee_migrate, an extra or what few need."""
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert unwanted & set(done.stdout.split()) == set()


_ENTERED = """
import os, sys
import voices_peewee
from voices_peewee.cli import cli

package, entered = os.path.dirname(voices_peewee.__file__), set()
def enter(frame, event, _):
    if event == "call" and frame.f_code.co_filename.startswith(package):
        entered.add(frame.f_code.co_filename)

cli(sys.argv[1:], standalone_mode=False)  # loads the modules
sys.setprofile(enter)
cli(sys.argv[1:], standalone_mode=False)
sys.setprofile(None)
print(len(entered))
"""


def test_a_list_is_a_short_walk(tmp_path: Path) -> None:
    """A list with words enters at most fifteen modules, as the walk in architecture.md says."""
    path = tmp_path / "voices.db"
    with DatabaseManager(path).initialize() as db:
        db.add(ProcessedFile(filename="mix.wav", file_format="wav", duration=3.0))
    command = [sys.executable, "-c", _ENTERED, "--db", str(path), "list-files"]
    for words in (["format:wav", "duration:..4"], ["mix"]):
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
        assert "mix.wav" in done.stdout
        assert int(done.stdout.split()[-1]) <= 15


_CHANGES = """
import os, sys
import voices_peewee
from voices_peewee import DatabaseManager

package, entered = os.path.dirname(voices_peewee.__file__), []
def enter(frame, event, _):
    name = frame.f_code.co_filename
    if event == "call" and name.startswith(package) and entered[-1:] != [name]:
        entered.append(name)

def work(db):
    with db.track("a.wav", "separation", model_type="demucs", parameters={"shifts": 2}) as run:
        run.output("b.wav", si_snri=12.4, sdri=12.9)

with DatabaseManager("voices.db").initialize() as db:
    for path in ("a.wav", "b.wav"):
        open(path, "w").write("no audio")
    work(db)  # loads the modules
    sys.setprofile(enter)
    work(db)
    sys.setprofile(None)
print(len(entered) - 1)
"""


def test_a_run_is_a_short_walk(tmp_path: Path) -> None:
    """A run with an output goes from module to module less than 75 times."""
    command = [sys.executable, "-c", _CHANGES]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert int(done.stdout) < 75


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Yield the public functions and classes of a module, and the methods of the latter."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_") or node.name == "Meta":
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            yield from public(node.body)


def test_public_functions_have_docstrings() -> None:
    """Everything public says what it does."""
    bare = [
        f"{path.name}:{node.lineno} {node.name}"
        for path in modules()
        for node in public(ast.parse(path.read_text("utf-8")).body)
        if not ast.get_docstring(node)
        and not any(ast.unparse(one) == "overload" for one in node.decorator_list)
    ]
    assert bare == []
