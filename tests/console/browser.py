"""Chromium as the console's tests use it: what a page asked for and complained about is written down."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_MS = 30_000
"""Only ever reached by a failing test, or on a machine that is very busy."""
DESKTOP, PHONE = (1280, 900), (360, 740)
Scheme = Literal["light", "dark"]


def chromium_path() -> str | None:
    """A Chromium of this machine; playwright's own download is not used."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browser(executable: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable)
        try:
            yield started
        finally:
            started.close()


@dataclass
class Watched:
    """What pages did besides showing something."""

    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("console", self._said)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def hosts(self) -> set[str | None]:
        """Of everything that was asked for over a network."""
        parts = [urlsplit(url) for url in self.asked]
        return {part.hostname for part in parts if part.scheme != "data"}


class Windows:
    """Fresh windows, each with a session of its own."""

    def __init__(self, started: Browser) -> None:
        self._browser = started
        self.watched = Watched()

    def open(self, url: str, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light") -> Page:
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
        )
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        self.watched.watch(page)
        page.goto(url)
        return page

    def close(self) -> None:
        for context in self._browser.contexts:
            context.close()
