"""Fixtures: pages in the machine's own Chromium, where a console error or a request to the outside fails the test."""

import asyncio
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, sync_playwright

from tests.support.need import need

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HOW = "`apt-get install chromium`, or put a Chrome on the PATH under one of the names " + ", ".join(NAMES)
SIZES: dict[str, ViewportSize] = {
    "desk": {"width": 1280, "height": 800},
    "phone": {"width": 390, "height": 844},
}
HERE = ("localhost", "*.localhost", "127.0.0.1", "[::1]")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    # The wall: no name and no address but loopback's can be reached, redirects and sockets included.
    "--host-resolver-rules=MAP * ~NOTFOUND," + ",".join(f"EXCLUDE {host}" for host in HERE),
]


Size = Literal["desk", "phone"]
Colours = Literal["light", "dark"]


class NewPage(Protocol):
    """Make a page in a context (cookies, storage) of its own; `allow` are patterns of expected console errors."""

    def __call__(
        self,
        *,
        size: Size = "desk",
        colours: Colours = "light",
        allow: Iterable[str] = (),
        **options: Any,
    ) -> Page: ...


@pytest.fixture(scope="session")
def sleeping_browser() -> Iterator[Browser]:
    """The browser of this test process. Playwright's loop counts as running while its pages are in use,
    and would forbid every other loop in this thread; so it sleeps except in the tests that take `browser`."""
    program = find_chromium() or install_chromium()
    if not program:
        need("a Chromium", HOW)
    with sync_playwright() as playwright:
        loop = asyncio.get_running_loop()
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        asyncio._set_running_loop(None)
        yield browser
        asyncio._set_running_loop(loop)
        browser.close()


@pytest.fixture
def browser(sleeping_browser: Browser) -> Iterator[Browser]:
    """The browser, awake for this test. Async fixtures of the same test must come before it in its arguments."""
    asyncio._set_running_loop(sleeping_browser._loop)
    yield sleeping_browser
    asyncio._set_running_loop(None)


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """`new_page(size="phone", colours="dark")`: as many people at as many screens as the test wants."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def make(*, size: Size = "desk", colours: Colours = "light", allow: Iterable[str] = (), **options: Any) -> Page:
        context = browser.new_context(viewport=SIZES[size], color_scheme=colours, **options)
        contexts.append(context)
        watch(context, [re.compile(pattern) for pattern in allow], faults)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()
    assert not faults, "the browser complains:\n" + "\n".join(dict.fromkeys(faults))


@pytest.fixture
def page(new_page: NewPage) -> Page:
    """One page at a desk, in light colours."""
    return new_page()


def watch(context: BrowserContext, allowed: list[re.Pattern[str]], faults: list[str]) -> None:
    """Keep what the console calls an error, what no script has caught, and every address outside."""

    def fault(kind: str, words: str) -> None:
        if not any(pattern.search(words) for pattern in allowed):
            faults.append(f"- {kind}: {words}")

    def reach(url: str) -> None:
        if not is_here(url):
            faults.append(f"- a request to the outside: {url}")

    def hear(said: ConsoleMessage) -> None:
        if said.type == "error":
            fault("console error", said.text)

    context.on("console", hear)
    context.on("weberror", lambda error: fault("uncaught error", str(error.error)))
    context.on("request", lambda request: reach(request.url))
    context.on("page", lambda page: page.on("websocket", lambda socket: reach(socket.url)))


def is_here(url: str) -> bool:
    """Whether an address stays on this machine."""
    parts = urlsplit(url)
    if parts.scheme in ("data", "blob", "about"):
        return True
    host = parts.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def find_chromium() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def install_chromium() -> str | None:
    """Debian's package, where we may install it; one test process at a time."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    with Path(tempfile.gettempdir(), "instep-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in ("apt-get update", "apt-get install -y --no-install-recommends chromium"):
            if not find_chromium():
                subprocess.run(
                    command.split(), env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, capture_output=True
                )
        return find_chromium()
