"""Make docs/img/notebook.png: what a notebook shows, on a light and on a dark page.

Needs the extras [audio], [stats], [notebook] and [example], Playwright and a Chromium:

    python docs/notebook_picture.py --chromium /usr/bin/chromium
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import separate  # noqa: E402 - beside the recordings

from voices_peewee import DatabaseManager  # noqa: E402

# Jupyter's own rules for tables and links, which ours live with.
STYLE = """
body { margin: 0; display: flex; font: 13px system-ui, sans-serif; }
section { padding: 4px 14px 10px; flex: 1; }
table { table-layout: fixed; margin: 0 auto 1em; }
td, th, tr { text-align: right; vertical-align: middle; padding: 0.5em; white-space: normal; }
code { display: block; padding: 4px 8px; margin: 8px 0 4px; font-size: 12px; }
.light { background: white; color: #212121; } .light code { background: #f5f5f5; }
.light a { color: #1976d2; } .dark a { color: #64b5f6; }
.dark { background: #111; color: #e0e0e0; } .dark code { background: #212121; }
"""


def cells(folder: Path) -> list[tuple[str, str]]:
    """Return what is typed, and the HTML of what comes out."""
    mixtures = folder / "mixtures"
    shutil.copytree(separate.HERE / "audio" / "mixtures", mixtures)
    shutil.copytree(separate.HERE / "audio" / "references", folder / "references")
    with DatabaseManager(folder / "voices.db").initialize() as db:
        for name in separate.SPEAKERS:
            db.create_speaker(name)
        for model in separate.METHODS:
            for path in sorted(mixtures.glob("*.flac")):
                separate.separate(db, model, path, folder / "stems")
        shown = {
            "db": db,
            'db.list_rows("performance", limit=3)': db.list_rows("performance", limit=3),
            "db.leaderboard()": db.leaderboard(),
            'db.compare("mask:1.0", "ica:1.0")': db.compare("mask:1.0", "ica:1.0"),
            "db.player(1)": db.player(1),
        }
        return [(typed, value._repr_html_()) for typed, value in shown.items()]


def page(parts: list[tuple[str, str]], folder: Path) -> str:
    """Return the page: the same output twice."""
    inner = "".join(f"<code>{typed}</code>{html}" for typed, html in parts)
    inner = inner.replace(str(folder), "/data")
    sections = "".join(f'<section class="{theme}">{inner}</section>' for theme in ("light", "dark"))
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{sections}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chromium", help="the browser's path; by default Playwright's own")
    parser.add_argument("--out", default=HERE / "img" / "notebook.png", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        html = page(cells(Path(folder)), Path(folder))
        browser = playwright.chromium.launch(executable_path=options.chromium)
        view = browser.new_page(viewport={"width": 1120, "height": 100})
        view.set_content(html)
        picture = Image.open(BytesIO(view.screenshot(full_page=True)))
        browser.close()
    picture.convert("RGB").quantize(24).save(options.out, optimize=True)  # text needs few colours


if __name__ == "__main__":
    main()
