"""HTTP/1.1 connections of the server: timeouts and a connection limit."""

import asyncio
import contextlib
import errno
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import structlog

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as AutoHTTPProtocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol


log = structlog.get_logger(__name__)
MAX_HEAD = 64 * 1024  # bytes of a request line and its headers; browsers and proxies stay far below
MIN_BODY_RATE = 16 * 1024  # minimum bytes per second of a body after its timeout
MAX_CREDITED_BODY = 2 * 1024 * 1024  # bytes of a body that extend its timeout; more than any body has
LINGER_TIMEOUT = 2.0  # seconds for a sender to read a response that was sent before its body was complete
MAX_DISCARDED_BYTES = 4 * 1024 * 1024  # bytes of an unread body that are discarded meanwhile
STALL_TIMEOUT = 120.0  # seconds in which the reader of a response has read nothing
FLUSH_TIMEOUT = 30.0  # the same, where the connection closes after the response
RESERVED_DESCRIPTORS = 64  # descriptors for the database, Clerk and the program itself
BACKLOG = 2_048  # connections that the system queues until they are accepted
ACCEPT_RETRY_DELAY = 0.1  # seconds after which a process without descriptors retries
EXHAUSTED_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ACCEPT_BATCH_DIVISOR = 10  # fraction of all connections accepted per event loop iteration
WARNING_INTERVAL = 60.0  # seconds
BUSY_RESPONSE = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
TIMEOUT_RESPONSE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
HEADERS_TOO_LARGE_RESPONSE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)
ConnectionPhase = Literal["head", "body", "handling", "idle", "stalled", "closing"]


@dataclass(frozen=True)
class ConnectionLimits:
    """Timeouts of a connection in seconds, and the maximum number of connections.

    `head` is for the request line and headers, from the connection or its first byte. `body` is for the body; one that
    arrives faster than `MIN_BODY_RATE` may take longer. `idle` is between two requests.
    """

    head: float = 10.0
    body: float = 10.0
    idle: int = 5
    connections: int = 2_000


def limit_to_open_files(wanted: int) -> int:
    """Return the number of connections that fits the limit of open files, at most the wanted one.

    Connections that are evicted close a moment after others were accepted: a sixth is reserved for them.
    """
    if sys.platform == "win32":
        return wanted
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if files == resource.RLIM_INFINITY else min(wanted, max(files - RESERVED_DESCRIPTORS, 16) * 5 // 6)


class BoundedProtocol(AutoHTTPProtocol):
    """uvicorn's HTTP/1.1 with timeouts for slow senders and readers, and a connection limit.

    At the limit a new connection replaces the one that has been waited for the longest (half a request, idle, an unread
    body; then stalled readers). It is refused with 503 only if a request is being handled on every connection.
    `waiting` and `stalled` contain these connections, oldest first; they belong to one server: see make_protocol.
    """

    limits: ClassVar[ConnectionLimits]
    waiting: ClassVar[dict["BoundedProtocol", None]]
    stalled: ClassVar[dict["BoundedProtocol", None]]
    last_warning_at: ClassVar[list[float]]

    _phase: ConnectionPhase = "idle"
    _timer: asyncio.TimerHandle | None = None
    _since = 0.0  # start of the body
    _head = 0  # bytes of an incomplete head
    _body = 0  # bytes of the present body
    _unsent = 0
    _discarded = 0
    _is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept a connection, evict another for it, or refuse it."""
        super().connection_made(_LingeringTransport(transport, self))  # type: ignore[arg-type]  # the subset that uvicorn uses
        self.timeout_keep_alive = self.limits.idle
        self._enter("head", self.limits.head)
        if len(self.connections) > self.limits.connections and not self.make_room(self):
            self.transport.write(BUSY_RESPONSE)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._is_lost = True
        self._enter("closing")
        self.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process data; discard that of a body nobody will read."""
        if self._phase == "closing":
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED_BYTES:
                self._abort()
            return
        before = self.cycle
        is_body = self._is_answering() and before.more_body
        if not is_body:
            self._head += len(data)
        super().data_received(data)
        if self.cycle is not before:
            self._head = self._body = 0
            self._since = self.loop.time()
        elif is_body:
            self._body += len(data)
        if self.transport.is_closing():
            return
        if self._head > MAX_HEAD:
            self._refuse(HEADERS_TOO_LARGE_RESPONSE)
        else:
            self._update_phase()

    def on_response_complete(self) -> None:
        """Wait for the next request, or close the connection where a body was left unread."""
        is_unread = not self.pipeline and self.cycle.more_body
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if is_unread:
            self.transport.close()
        elif self._is_answering():
            self._update_phase()
        else:
            self._enter("idle")

    def pause_writing(self) -> None:
        """Note that the reader is slow."""
        super().pause_writing()
        if self._phase != "closing":
            self._unsent = self._count_unsent()
            self._enter("stalled", STALL_TIMEOUT)

    def resume_writing(self) -> None:
        """Note that the reader has caught up."""
        super().resume_writing()
        if self._phase == "stalled":
            self._enter("handling")
            self._update_phase()

    def close(self, transport: asyncio.Transport) -> None:
        """Close the connection; see `_LingeringTransport.close`.

        Closing a socket with unread bytes makes the system discard the response as well. While a body is arriving, its
        sender gets a moment to read the response.
        """
        if self._is_lost or self._phase == "closing":
            transport.close()
            return
        is_unread = self.cycle is not None and self.cycle.more_body and not self.cycle.disconnected
        if is_unread and transport.can_write_eof():
            self._unsent = 0
            self._enter("closing", LINGER_TIMEOUT)
            self.flow.resume_reading()
            transport.write_eof()
        else:
            self._unsent = self._count_unsent()
            self._enter("closing", FLUSH_TIMEOUT)
            transport.close()

    def is_closing(self, transport: asyncio.Transport) -> bool:
        """Return whether no more requests are handled here."""
        return self._phase == "closing" or transport.is_closing()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _update_phase(self) -> None:
        """Determine the phase after data or a response."""
        if self._phase == "stalled":
            return
        if not self._is_answering():
            if self._phase != "head":
                self._enter("head", self.limits.head)
        elif self.cycle.more_body and not self.pipeline:
            if self._phase != "body":
                self._enter("body", self.limits.body)
        elif self._phase != "handling":
            self._enter("handling")

    def _enter(self, phase: ConnectionPhase, seconds: float | None = None) -> None:
        """Enter a phase, with a timeout in seconds."""
        self._phase = phase
        self.stalled.pop(self, None)
        if phase == "handling":
            self.waiting.pop(self, None)
        elif phase == "stalled":
            self.waiting.pop(self, None)
            self.stalled[self] = None
        else:
            self.waiting.setdefault(self)
        self._arm(seconds)

    def _arm(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._time_out)

    def _time_out(self) -> None:
        """Handle the timeout of the present phase."""
        self._timer = None
        if self._phase == "body":
            self._check_body_rate()
        elif self._phase == "head" and self._head:
            self._refuse(TIMEOUT_RESPONSE)
        elif self._phase == "head":
            self.transport.close()
        else:
            self._check_reader()

    def _check_body_rate(self) -> None:
        if self.flow.read_paused:  # the application has paused reading
            self._arm(self.limits.body)
            return
        allowed = self.limits.body + min(self._body, MAX_CREDITED_BODY) / MIN_BODY_RATE
        left = allowed - (self.loop.time() - self._since)
        if left > 0:
            self._arm(left)
        elif self.cycle.response_started:
            self._abort()
        else:
            self._refuse(TIMEOUT_RESPONSE)

    def _check_reader(self) -> None:
        unsent = self._count_unsent()
        if unsent < self._unsent:
            self._unsent = unsent
            self._arm(STALL_TIMEOUT if self._phase == "stalled" else FLUSH_TIMEOUT)
        else:
            self._abort()

    def _refuse(self, response: bytes) -> None:
        """Close the connection with our own response; the application sees a disconnect."""
        if self._is_answering():
            if self.cycle.response_started:
                self._abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(response)
        self.transport.close()

    def _abort(self) -> None:
        self.transport.abort()

    @classmethod
    def make_room(cls, newest: "BoundedProtocol | None" = None) -> bool:
        """Close the connection that has been waited for the longest. Return whether there is one beside the newest."""
        now = time.monotonic()
        if not cls.last_warning_at or now - cls.last_warning_at[-1] >= WARNING_INTERVAL:
            cls.last_warning_at[:] = [now]
            log.warning("connection_limit_reached", limit=cls.limits.connections)
        oldest = next((it for it in (*_first_two(cls.waiting), *_first_two(cls.stalled)) if it is not newest), None)
        if oldest is None:
            return False
        cls.waiting.pop(oldest, None)
        cls.stalled.pop(oldest, None)
        oldest.connections.discard(oldest)
        oldest._abort()
        return True

    def _count_unsent(self) -> int:
        """Return the bytes of responses that the peer has not read yet: ours and, on Linux, the system's."""
        count = self.transport.get_write_buffer_size()
        if sys.platform == "linux":
            import fcntl
            import termios

            with contextlib.suppress(OSError, AttributeError):
                waiting = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
                count += int.from_bytes(waiting, sys.byteorder)
        return count


def _first_two(connections: dict[BoundedProtocol, None]) -> list[BoundedProtocol]:
    return [it for it, _ in zip(connections, range(2), strict=False)]


class _LingeringTransport:
    """A transport whose closing the protocol decides; everything else is the real one's."""

    def __init__(self, transport: Any, protocol: BoundedProtocol) -> None:
        self._real, self._protocol = transport, protocol
        self.write = transport.write
        self.abort = transport.abort
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self._protocol.close(self._real)

    def is_closing(self) -> bool:
        """Return whether the connection is closing."""
        return self._protocol.is_closing(self._real)


def make_protocol(limits: ConnectionLimits) -> type[BoundedProtocol]:
    """Create a protocol class with these limits for one uvicorn server (its `http`)."""
    own: dict[str, Any] = {"limits": limits, "waiting": {}, "stalled": {}, "last_warning_at": []}
    return type("Protocol", (BoundedProtocol,), own)


class ConnectionAcceptor:
    """Accepts connections from listening sockets, a few at a time, and gives each a new protocol of `make`.

    An event loop accepts everything that waits before it handles any of it: with few descriptors it then has none left.
    So at most `at_once` are accepted per iteration; `make_room` closes one where descriptors run out all the same.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        make: Callable[[], asyncio.Protocol],
        make_room: Callable[[], object],
        at_once: int,
    ) -> None:
        self._listeners, self._make, self._make_room, self._at_once = listeners, make, make_room, at_once
        self._loop = asyncio.get_running_loop()
        self._pending: set[asyncio.Task[None]] = set()
        self._is_open = True
        for listener in listeners:
            listener.setblocking(False)
            self._listen(listener)

    def close(self) -> None:
        """Stop accepting."""
        self._is_open = False
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()

    def _listen(self, listener: socket.socket) -> None:
        if self._is_open:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(self._at_once):
            try:
                connection, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in EXHAUSTED_ERRNOS:
                    self._make_room()
                    self._loop.remove_reader(listener.fileno())
                    self._loop.call_later(ACCEPT_RETRY_DELAY, self._listen, listener)
                return
            pending = self._loop.create_task(self._connect(connection))
            self._pending.add(pending)
            pending.add_done_callback(self._pending.discard)

    async def _connect(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._make, connection)


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on every address of `host`. Raises OSError."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, _kind, _protocol, _name, address in dict.fromkeys(found):
            listeners.append(socket.create_server(address[:2], family=family, backlog=BACKLOG))
    except OSError:
        for listener in listeners:
            listener.close()
        raise
    return listeners
