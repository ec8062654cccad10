"""Serving until told to stop: a signal ends the server in order, and then whatever else was opened."""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from instep.app.web import make_app
from instep.app.wiring import Services
from instep.kit.errors import PermanentError

GRACE = 5


class Server(uvicorn.Server):
    """uvicorn, without raising the signal a second time after it has stopped: what comes after must still run.

    `on_started` is called with the address once connections are accepted.
    """

    on_started: Callable[[str], None] = staticmethod(lambda _: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and tell where."""
        await super().startup(sockets=sockets)
        listening = [it.getsockname() for server in self.servers for it in server.sockets]
        if self.started and listening:
            host, port = listening[0][:2]
            self.on_started(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop in order on the first Ctrl-C or SIGTERM, at once on the second."""
        with _caught(lambda it: self.handle_exit(it, None)):
            yield


class PortTaken(PermanentError):
    """Somebody else listens there."""

    def __init__(self, port: int, hint: str) -> None:
        super().__init__(f"Port {port} is taken. Stop what uses it, or choose another: {hint}", code="port_taken")


def check_free(host: str, port: int, *, hint: str) -> None:
    """Raises PortTaken with the hint; any other trouble of listening is told when it comes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(port, hint) from error


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
