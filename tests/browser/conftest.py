"""Firms behind the real pages, served for one test: one that is made up, and one with everything behind it."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import uvicorn
from playwright.sync_api import Page

from instep.auth.authenticator import SESSION_COOKIE
from instep.domain.models import SessionClaims
from tests.browser.preview import Firm, preview
from tests.support.world import Firm as WholeFirm
from tests.support.world import make_firm

T = TypeVar("T")


@dataclass(frozen=True)
class Site:
    """`url` of the members page; `do` changes the firm where the server can see it."""

    origin: str
    firm: Firm
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"{self.origin}/organizations/northwind-law/members"

    def do(self, change: Callable[[], None]) -> None:
        self.loop.call_soon_threadsafe(change)


@pytest.fixture
def site() -> Iterator[Site]:
    """The site, on a free port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    firm, runner = Firm.northwind(), asyncio.Runner()
    config = uvicorn.Config(preview(firm, origin), log_level="warning", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    loop = runner.get_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(server.serve(sockets=[listener]),))
    thread.start()
    yield Site(origin, firm, loop)
    server.should_exit = True
    thread.join(timeout=5)
    runner.close()


@dataclass(frozen=True)
class Office:
    """A real firm (SQLite, Clerk's emulator in process) behind real pages. `run` has the server's own loop do it."""

    origin: str
    firm: WholeFirm
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def enter(self, page: Page) -> Page:
        """Sign in with the break-glass key."""
        token = self.run(self.firm.services.sign_in_pages.sessions.open_break_glass())
        page.context.add_cookies([{"name": SESSION_COOKIE, "value": token, "url": self.origin}])
        return page

    def enter_as(self, page: Page, email: str) -> Page:
        """Sign in as the person with this address."""
        claims = SessionClaims(user=self.firm.user_id(email), session=f"sess_{email.partition('@')[0]}")
        token = self.run(self.firm.services.authenticator.sessions.open(claims))
        page.context.add_cookies([{"name": SESSION_COOKIE, "value": token, "url": self.origin}])
        return page


@pytest.fixture
def office(sqlite_migrated_url: str, clerk_key: str) -> Iterator[Office]:
    """Nobody is in it yet; its worker and its webhooks wait to be told."""
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    runner = asyncio.Runner()
    loop = runner.get_loop()
    firm = make_firm(sqlite_migrated_url, private_key=clerk_key, INSTEP_PUBLIC_URL=origin)
    config = uvicorn.Config(firm.app, log_level="warning", ws="none", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=loop.run_until_complete, args=(server.serve(sockets=[listener]),))
    thread.start()
    yield Office(origin, firm, loop)
    server.should_exit = True
    thread.join(timeout=5)
    loop.run_until_complete(firm.close())
    runner.close()
