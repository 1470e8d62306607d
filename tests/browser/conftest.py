"""The browser that pages are tried in: one that is installed, never one that is downloaded."""

import os
import shutil
from collections.abc import Iterator

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("no Chromium was found")
    sync = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with sync.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()
