"""Makes docs/report*.png, listen_*.png and img/web.png of the example record, in a browser."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from support.browser import opened
from voices_peewee import DatabaseManager

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SCREENS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 900, "height": 680}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 900, "height": 680}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 400, "height": 700}, "color_scheme": "light"},
}


def main() -> None:
    """Separate the example mixtures, and take the pictures of all pages."""
    with tempfile.TemporaryDirectory() as folder:
        record, stems = Path(folder, "voices.db"), Path(folder, "stems")
        program = [sys.executable, str(ROOT / "examples" / "separate.py")]
        done = [*program, "--db", str(record), "--out", str(stems)]
        subprocess.run(done, check=True, stdout=subprocess.DEVNULL)
        with DatabaseManager(record).connect() as db:
            test = Path(folder, "test.html")
            db.listen("ica:1.0", "mask:1.0", path=test, seconds=2, seed=1)
        for name, screen in SCREENS.items():
            viewport = {**screen["viewport"], "height": 1035}
            with opened(stems / "report.html", [], **{**screen, "viewport": viewport}) as page:
                page.screenshot(path=DOCS / f"report_{name}.png".replace("_light", ""))
            with opened(test, [], **screen) as page:
                page.fill("#listener", "Eve")
                page.select_option("#device", "headphones")
                page.click("#start")
                page.wait_for_timeout(300)
                for key in "ab":
                    page.keyboard.press(key)
                    page.wait_for_timeout(1300)
                page.keyboard.press("3")
                page.screenshot(path=DOCS / f"listen_{name}.png")
        command = [sys.executable, "-m", "voices_peewee", "--db", str(record), "serve"]
        server = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with opened(address, [], viewport={"width": 1100, "height": 800}) as page:
            page.screenshot(path=DOCS / "img" / "web.png")
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
