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
MIN_BODY_RATE = 16 * 1024  # bytes a second that a body has to come in, once its time is over
MAX_CREDITED_BODY = 2 * 1024 * 1024  # bytes of a body that win it time; more than any body has, with its chunks' sizes
LINGER_TIMEOUT = 2.0  # seconds that a sender has to take notice of an answer that came before its body
MAX_DISCARDED_BYTES = 4 * 1024 * 1024  # bytes of an unread body that are thrown away meanwhile
STALL_TIMEOUT = 120.0  # seconds in which the reader of an answer has taken nothing of it
FLUSH_TIMEOUT = 30.0  # the same, where the connection ends after that answer
RESERVED_DESCRIPTORS = 64  # descriptors for the database, Clerk and the program itself
BACKLOG = 2_048  # connections that the system keeps until they are accepted
ACCEPT_RETRY_DELAY = 0.1  # seconds after which a process without descriptors looks again
EXHAUSTED_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ACCEPT_BATCH_DIVISOR = (
    10  # this part of all connections is accepted in one turn of the event loop: then others are heard again
)
WARNING_INTERVAL = 60.0  # seconds
BUSY_RESPONSE = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
TIMEOUT_RESPONSE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
HEADERS_TOO_LARGE_RESPONSE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)
ConnectionPhase = Literal["head", "body", "handling", "idle", "stalled", "closing"]


@dataclass(frozen=True)
class ConnectionLimits:
    """How long a connection is waited for, in seconds, and how many there may be.

    `head` is for a request's line and headers, from the connection or from its first byte. `body` is for its body; one
    that comes faster than `BODY_RATE` may take longer. `idle` is between two requests.
    """

    head: float = 10.0
    body: float = 10.0
    idle: int = 5
    connections: int = 2_000


def limit_to_open_files(wanted: int) -> int:
    """Return how many connections there may be, of those wanted, with the descriptors that this process may open.

    Those that make room are closed a moment after others have been accepted: a sixth is kept for that.
    """
    if sys.platform == "win32":
        return wanted
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if files == resource.RLIM_INFINITY else min(wanted, max(files - RESERVED_DESCRIPTORS, 16) * 5 // 6)


class BoundedProtocol(AutoHTTPProtocol):
    """uvicorn's HTTP/1.1, which gives up on senders that do not go on, and on readers that do not read.

    Where the limit of connections is reached, a new one takes the place of the one that has been waited for the
    longest (half a request, idle, an unread body; then readers that stall). Only where every connection is being
    answered is the new one refused, with 503. `waiting` and `stalled` hold these connections, the oldest first; they
    belong to one server: see make_protocol.
    """

    limits: ClassVar[ConnectionLimits]
    waiting: ClassVar[dict["BoundedProtocol", None]]
    stalled: ClassVar[dict["BoundedProtocol", None]]
    warned: ClassVar[list[float]]

    _phase: ConnectionPhase = "idle"
    _timer: asyncio.TimerHandle | None = None
    _since = 0.0  # when the body began
    _head = 0  # bytes of a head that is not whole yet
    _body = 0  # bytes of the present body
    _unsent = 0
    _discarded = 0
    _is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection in, or make room for it, or refuse it."""
        super().connection_made(_LingeringTransport(transport, self))  # type: ignore[arg-type]  # all that uvicorn uses of one
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
        """Take bytes in; those of a body that nobody will read are thrown away."""
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
            self._look()

    def on_response_complete(self) -> None:
        """Wait for the next request, or end the connection where a body was left unread."""
        is_unread = not self.pipeline and self.cycle.more_body
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if is_unread:
            self.transport.close()
        elif self._is_answering():
            self._look()
        else:
            self._enter("idle")

    def pause_writing(self) -> None:
        """Note that the reader is behind."""
        super().pause_writing()
        if self._phase != "closing":
            self._unsent = self._count_unsent()
            self._enter("stalled", STALL_TIMEOUT)

    def resume_writing(self) -> None:
        """Note that the reader has caught up."""
        super().resume_writing()
        if self._phase == "stalled":
            self._enter("handling")
            self._look()

    def close(self, transport: asyncio.Transport) -> None:
        """End the connection as far as it is in our hands: see `_Transport.close`.

        Closing a socket with bytes unread makes the system throw the answer away, too. Where a body is under way, its
        sender is given a moment to see the answer.
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
        """Return whether nothing more will be answered here."""
        return self._phase == "closing" or transport.is_closing()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        """Decide what is waited for now."""
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
        """Begin to wait for something else, for so long."""
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
        """What was waited for did not come."""
        self._timer = None
        if self._phase == "body":
            self._judge_body()
        elif self._phase == "head" and self._head:
            self._refuse(TIMEOUT_RESPONSE)
        elif self._phase == "head":
            self.transport.close()
        else:
            self._judge_reader()

    def _judge_body(self) -> None:
        if self.flow.read_paused:  # it waits for us
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

    def _judge_reader(self) -> None:
        unsent = self._count_unsent()
        if unsent < self._unsent:
            self._unsent = unsent
            self._arm(STALL_TIMEOUT if self._phase == "stalled" else FLUSH_TIMEOUT)
        else:
            self._abort()

    def _refuse(self, answer: bytes) -> None:
        """End the connection with an answer of our own; the application learns that its client is gone."""
        if self._is_answering():
            if self.cycle.response_started:
                self._abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(answer)
        self.transport.close()

    def _abort(self) -> None:
        self.transport.abort()

    @classmethod
    def make_room(cls, newest: "BoundedProtocol | None" = None) -> bool:
        """End the connection that has been waited for the longest. Return whether there is one beside the newest."""
        now = time.monotonic()
        if not cls.warned or now - cls.warned[-1] >= WARNING_INTERVAL:
            cls.warned[:] = [now]
            log.warning("connection_limit_reached", limit=cls.limits.connections)
        victim = next((it for it in (*_first_two(cls.waiting), *_first_two(cls.stalled)) if it is not newest), None)
        if victim is None:
            return False
        cls.waiting.pop(victim, None)
        cls.stalled.pop(victim, None)
        victim.connections.discard(victim)
        victim._abort()
        return True

    def _count_unsent(self) -> int:
        """Return the bytes of answers that the other side has not taken yet: ours and, on Linux, the system's."""
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
    """A transport whose end the protocol decides on; the rest is the real one's."""

    def __init__(self, transport: Any, protocol: BoundedProtocol) -> None:
        self._real, self._protocol = transport, protocol
        self.write = transport.write
        self.abort = transport.abort
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.get_write_buffer_size = transport.get_write_buffer_size

    def close(self) -> None:
        """End the connection when everything is sent."""
        self._protocol.close(self._real)

    def is_closing(self) -> bool:
        """Return whether the connection is about to end."""
        return self._protocol.is_closing(self._real)


def make_protocol(limits: ConnectionLimits) -> type[BoundedProtocol]:
    """A protocol class for one uvicorn server (its `http`), with these limits."""
    own: dict[str, Any] = {"limits": limits, "waiting": {}, "stalled": {}, "warned": []}
    return type("Protocol", (BoundedProtocol,), own)


class ConnectionAcceptor:
    """Takes connections in from listening sockets, a few at a time, and hands each to a new protocol of `make`.

    An event loop by itself accepts whatever waits before it listens to anybody: with few descriptors it then has none
    left. So it takes `at_once` of them in one turn; `make_room` ends one where descriptors run out all the same.
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
        self._arriving: set[asyncio.Task[None]] = set()
        self._is_open = True
        for listener in listeners:
            listener.setblocking(False)
            self._listen(listener)

    def close(self) -> None:
        """Accept no more."""
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
            arriving = self._loop.create_task(self._take(connection))
            self._arriving.add(arriving)
            arriving.add_done_callback(self._arriving.discard)

    async def _take(self, connection: socket.socket) -> None:
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
