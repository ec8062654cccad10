"""A firm of made-up people behind the real pages, served for one test."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import uvicorn

from tests.browser.preview import Firm, preview


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
