"""Requests as a server hands them over, one piece of the body at a time, and how much of the body was asked for."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class RawAnswer:
    """An answer, and the bytes of the request's body that were asked for until it was whole."""

    status: int
    headers: dict[str, str]
    body: bytes
    read: int


async def send_raw(
    app: Any, method: str, path: str, headers: Mapping[str, str], chunks: Iterable[bytes] = (), *, hang_up: bool = False
) -> RawAnswer:
    """Send one request whose body comes in `chunks`; with `hang_up` the sender goes away where they end."""
    pieces, read = iter(chunks), 0
    sent: list[dict[str, Any]] = []
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.7", 5),
        "server": ("127.0.0.1", 8000),
    }

    is_over = False

    async def receive() -> Any:
        nonlocal read, is_over
        if is_over:
            await asyncio.Event().wait()
        piece = next(pieces, None)
        if piece is None:
            is_over = True
            return {"type": "http.disconnect"} if hang_up else {"type": "http.request", "body": b"", "more_body": False}
        read += len(piece)
        return {"type": "http.request", "body": piece, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start: dict[str, Any] = next(
        (it for it in sent if it["type"] == "http.response.start"), {"status": 0, "headers": []}
    )
    given = {name.decode(): value.decode() for name, value in start["headers"]}
    return RawAnswer(start["status"], given, b"".join(it.get("body", b"") for it in sent), read)
