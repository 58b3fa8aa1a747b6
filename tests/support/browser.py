"""A headless Chromium that looks at a page, and tells what it says and asks for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"

needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium is installed (Debian: chromium)"
)
needs_axe = pytest.mark.skipif(
    not AXE.exists(), reason="axe-core is not installed (npm install --no-save axe-core)"
)


@contextmanager
def opened(page_at: Path | str, said: list[str], script: str = "", **how: Any) -> Iterator[Any]:
    """Open a page, a file or a URL; its messages, errors and requests are added to ``said``.

    A ``script`` runs before the page's own.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(**how)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: said.append(request.url))
        page.add_init_script(script)
        page.goto(page_at if isinstance(page_at, str) else page_at.as_uri(), wait_until="load")
        yield page
        browser.close()


def barriers(page: Any) -> list[str]:
    """Return what axe-core finds that keeps people out: what is serious or critical."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html']}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
