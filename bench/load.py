"""A closed loop over keep-alive connections: one request in flight on each, one thread, epoll, raw sockets."""

import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SILENCE = 30

Next = Callable[[bytes | None], bytes | None]


@dataclass
class Result:
    """What came back. `seconds` is the wall time from the first request to the last answer."""

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    refusal: bytes = b""
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def quantile(self, q: float) -> float:
        """In milliseconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1e3 if ordered else float("nan")

    def __add__(self, other: "Result") -> "Result":
        """Both, as if one had followed the other."""
        latencies, refused = self.latencies + other.latencies, self.refused + other.refused
        return Result(latencies, refused, self.refusal or other.refusal, self.seconds + other.seconds)

    def checked(self) -> "Result":
        """Itself, if every answer was a 2xx: a fast failure is no result."""
        if self.refused or not self.latencies:
            raise RuntimeError(f"{self.refused} of {self.refused + len(self.latencies)} were refused: {self.refusal!r}")
        return self


class _Line:
    def __init__(self, port: int, following: Next) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.following, self.answer, self.sent_at = following, b"", 0.0

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)


def drive(port: int, lines: list[Next], *, seconds: float) -> Result:
    """Keep one connection for each of `lines` busy; each gives the request after an answer, None when it has no more.

    No request is begun after `seconds`; those in flight are waited for.
    """
    result, poll = Result(), select.epoll()
    started = time.perf_counter()
    open_lines: dict[int, _Line] = {}
    for following in lines:
        line = _Line(port, following)
        if (request := following(None)) is not None:
            open_lines[line.socket.fileno()] = line
            poll.register(line.socket.fileno(), select.EPOLLIN)
            line.send(request)
    while open_lines:
        ready = poll.poll(SILENCE)
        if not ready:
            raise RuntimeError(f"no answer for {SILENCE} s")
        for number, _ in ready:
            line = open_lines[number]
            if not _read(line):
                continue
            answer, line.answer = line.answer, b""
            _note(result, answer, time.perf_counter() - line.sent_at)
            is_over = time.perf_counter() - started > seconds
            request = None if is_over else line.following(answer)
            if request is not None:
                line.send(request)
                continue
            poll.unregister(number)
            line.socket.close()
            del open_lines[number]
    result.seconds = time.perf_counter() - started
    return result


def _read(line: _Line) -> bool:
    """Take what arrived; whether the answer is whole."""
    chunk = line.socket.recv(1 << 18)
    if not chunk:
        raise RuntimeError(f"the server hung up after {line.answer[:200]!r}")
    line.answer += chunk
    end = line.answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    length = LENGTH.search(line.answer, 0, end + 2)
    return length is not None and len(line.answer) >= end + 4 + int(length[1])


def _note(result: Result, answer: bytes, seconds: float) -> None:
    if answer[9:10] == b"2":
        result.latencies.append(seconds)
    else:
        result.refused += 1
        result.refusal = result.refusal or answer[:400]
