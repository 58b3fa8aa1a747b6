"""The page about plots shows what the script beside it makes."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from display.test_plots import size
from voices_peewee import DatabaseManager

pytestmark = pytest.mark.once

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, as a module."""
    spec = spec_from_file_location("pictures", DOCS / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pictures", module)
    spec.loader.exec_module(module)
    return module


def test_the_text_is_what_the_runs_come_to(pictures: ModuleType, db: DatabaseManager) -> None:
    """The plot that the page shows as text is drawn from the script's runs."""
    pictures.fill(db)
    drawn = db.plot_text("distribution", metric="si_snri")
    assert f"```text\n{drawn}\n```\n" in (DOCS / "plots.md").read_text("utf-8")


def test_the_page_shows_every_picture(pictures: ModuleType, tmp_path: Path) -> None:
    """The script makes the pictures of the page, which are small and of the same shape."""
    folder = tmp_path / "img"
    folder.mkdir()
    pictures.draw(folder)
    made = {path.name: size(path.read_bytes()) for path in folder.iterdir()}
    kept = {path.name: path for path in (DOCS / "img").glob("plot_*.png")}
    page = (DOCS / "plots.md").read_text("utf-8")
    assert made == {name: size(path.read_bytes()) for name, path in kept.items()}
    assert all(f"](img/{name})" in page for name in made)
    assert max(path.stat().st_size for path in kept.values()) < 60_000
