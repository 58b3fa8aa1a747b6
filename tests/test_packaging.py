"""What is built is whole, and works where there is no checkout."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipapp
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist of the checkout, and the wheel made from it.

    It is made from a copy, for builds write into the folder that they build, and each
    worker of the suite makes its own.
    """
    out = tmp_path_factory.mktemp("dist")
    leftovers = shutil.ignore_patterns(".*", "build", "*.egg-info")
    copy = shutil.copytree(ROOT, tmp_path_factory.mktemp("copy") / "voices", ignore=leftovers)
    result = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(out), str(copy)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def test_wheel_and_sdist_hold_all_that_belongs(built: tuple[Path, Path]) -> None:
    """Every module and every migration is shipped, and nothing that was left over."""
    sdist, wheel = built
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "voices_peewee").rglob("*.py")}
    migrations = {path.name for path in (ROOT / "migrations").glob("*.py")}
    expected = package | {f"voices_peewee/migration_files/{name}" for name in migrations}
    expected |= {"voices_peewee/py.typed"}
    display = ROOT / "voices_peewee" / "display"
    pages = [*display.glob("static/*.[cj]s*"), *display.glob("templates/*.html")]
    expected |= {str(path.relative_to(ROOT)) for path in pages}
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
        metadata = next(name for name in file.namelist() if name.endswith("METADATA"))
        text = file.read(metadata).decode()
    assert held == expected
    assert "Name: voices-peewee\n" in text
    assert "Requires-Python: >=3.11\n" in text
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package | {f"migrations/{name}" for name in migrations} <= names


def test_wheel_works_in_an_empty_environment(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Only the wheel, an empty directory: database, speaker, list, backup, the backup's list."""
    _, wheel = built
    home = tmp_path / "environment"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    subprocess.run(
        [home / "bin" / "python", "-m", "pip", "install", "--quiet", str(wheel)],
        check=True,
        capture_output=True,
        env=environment,
    )
    empty = tmp_path / "empty"
    empty.mkdir()

    def voices(*words: str) -> str:
        done = subprocess.run(
            [home / "bin" / "voices", *words],
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    voices("--db", "x.db", "init")
    voices("--db", "x.db", "add-speaker", "John Doe", "--description", "Male speaker")
    listed = json.loads(voices("--db", "x.db", "list-speakers", "--json"))
    voices("--db", "x.db", "backup", "--backup-path", "y.db")
    table = voices("--db", "y.db", "list-speakers")

    assert [(one["name"], one["description"]) for one in listed] == [("John Doe", "Male speaker")]
    assert "John Doe" in table


def test_a_zip_file_works(built: tuple[Path, Path], tmp_path: Path) -> None:
    """From a zipapp, and with ``-OO``, commands and pages work as they do when installed."""
    _, wheel = built
    app, own = tmp_path / "app", tmp_path / "tmp"
    environment = {**os.environ, "PYTHONPATH": "", "TMPDIR": str(own)}
    own.mkdir()
    shutil.unpack_archive(wheel, app, "zip")
    needed = ["click", "jinja2", "markupsafe", "peewee", "peewee_migrate", "playhouse"]
    for name in needed:
        found = Path(str(importlib.util.find_spec(name).origin))
        if found.name == "__init__.py":
            shutil.copytree(found.parent, app / name, ignore=shutil.ignore_patterns("*.so"))
        else:
            shutil.copy(found, app)
    (app / "__main__.py").write_text("from voices_peewee.cli import main\nmain()\n")
    zipapp.create_archive(app, tmp_path / "voices.pyz")

    def voices(*words: str) -> str:
        command = [sys.executable, "-SOO", tmp_path / "voices.pyz", "--db", "x.db", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    voices("init")
    assert voices("add-speaker", "Ada") == "1\n"
    assert "Ada" in voices("list", "speakers")
    voices("check")
    assert "\n  List files.\n" in voices("list-files", "--help")
    assert Path(tmp_path, voices("backup").strip()).is_file()
    code = """
import sys
sys.path.insert(0, "voices.pyz")
import os
from voices_peewee import DatabaseManager
with DatabaseManager("x.db").connect() as db:
    if (child := os.fork()) == 0:
        sys.exit()  # its own end removes nothing of its parent's
    os.waitpid(child, 0)
    db.migration_status()
    with db.track("a.wav", "separation", model_type="demucs") as run:
        run.log(si_snri=1.0)
    print(db.report("r.html"))
"""
    done = subprocess.run(
        [sys.executable, "-SOO", "-c", code], cwd=tmp_path, env=environment, capture_output=True
    )
    assert (done.stdout, done.stderr) == (b"r.html\n", b"")
    assert [*own.iterdir()] == []
