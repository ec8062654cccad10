"""Serving until told to stop: a signal ends the server in order, and then whatever else was opened."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

import uvicorn

from instep.app.web import make_app
from instep.app.wiring import Services

GRACE = 5


class Server(uvicorn.Server):
    """uvicorn, without raising the signal a second time after it has stopped: what comes after must still run."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop in order on the first Ctrl-C or SIGTERM, at once on the second."""
        with _caught(lambda it: self.handle_exit(it, None)):
            yield


def make_server(services: Services, *, host: str, port: int) -> Server:
    """A server of the application, not started."""
    return Server(
        uvicorn.Config(
            make_app(services),
            host=host,
            port=port,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=GRACE,
        )
    )


async def work_until_told(services: Services) -> None:
    """The worker alone, until Ctrl-C or SIGTERM."""
    told = asyncio.Event()
    with _caught(lambda _: told.set()):
        services.start(has_worker=True)
        await told.wait()
    await services.close()


@contextlib.contextmanager
def _caught(handle: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM are handled on the event loop, and by nobody else."""
    loop = asyncio.get_running_loop()
    for it in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(it, handle, it)
    try:
        yield
    finally:
        for it in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(it)
