"""Makes docs/img/web.png, the page of a database in a browser."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from support.run_rows import add_run
from voices_peewee import DatabaseManager, Speaker

PICTURE = Path(__file__).parents[2] / "docs" / "img" / "web.png"
MODELS = {"demucs:4.0": 12.1, "demucs:3.0": 10.4, "svoice:1.2": 9.2}


def fill(path: Path) -> None:
    """Write two speakers and 120 runs."""
    chance = random.Random(1)
    with DatabaseManager(path).initialize() as db:
        speakers = [db.add(Speaker(name=name)) for name in ("Ada", "Bob")]
        for number in range(120):
            model = chance.choice([*MODELS])
            (status,) = chance.choices(["success", "failed", "unfinished"], [30, 3, 1])
            metrics = {"si_snri": chance.gauss(MODELS[model], 2), "real_time_factor": 0.4}
            add_run(
                db,
                f"/mix/{number:03}.wav",
                model,
                hours=number / 10,
                status=status,
                speaker=chance.choice(speakers),
                file={"filename": f"{number:03}.wav"},
                **(metrics if status == "success" else {}),
            )


def main() -> None:
    """Serve a database for a moment and take the picture."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = Path(folder, "voices.db")
        fill(path)
        command = [sys.executable, "-m", "voices_peewee", "--db", str(path), "serve", "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto(server.stdout.readline().strip())
        page.screenshot(path=PICTURE)
        browser.close()
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
