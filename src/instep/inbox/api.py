"""The door for Clerk's webhooks: plain ASGI, since it is the busiest one."""

from typing import Any

import msgspec
import structlog

from instep.inbox.receive import MAX_BODY, Receiver
from instep.kit.errors import PermanentError, TemporaryError

log = structlog.get_logger(__name__)

PATHS = frozenset({"/webhooks/clerk", "/api/webhooks/clerk"})
STATUSES = {"bad_signature": 401, "stale": 401, "bad_delivery": 400, "wrong_instance": 403}
JSON = (b"content-type", b"application/json")

Scope = Any
Receive = Any
Send = Any


class TooLarge(Exception):
    """The body is over the limit."""


class Webhooks:
    """Answers `POST /webhooks/clerk`: 202 once a delivery is safe, else a status that says whose fault it is.

    413 over 1 MiB, 401 a bad or stale signature, 400 malformed, 403 another Clerk instance, 503 the database, or a
    fault of ours: then Clerk sends it again.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["method"] != "POST":
            await _answer(send, 405, "Deliveries are sent by POST.", (b"allow", b"POST"))
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            body = await _body(headers, receive)
            delivery = await self._receiver.receive(headers, body)
        except TooLarge:
            await _answer(send, 413, "A delivery is at most 1 MiB.")
        except PermanentError as error:
            log.info("delivery_refused", code=error.code, svix_id=headers.get("svix-id"))
            await _answer(send, STATUSES.get(error.code, 400), str(error))
        except TemporaryError as error:
            log.warning("delivery_not_kept", error=str(error))
            await _answer(send, 503, "Not kept; send it again.", (b"retry-after", b"5"))
        except Exception:
            log.exception("delivery_broke", svix_id=headers.get("svix-id"))
            await _answer(send, 503, "Not kept; send it again.", (b"retry-after", b"5"))
        else:
            await _answer(send, 202, delivery.id)


async def _body(headers: dict[str, str], receive: Receive) -> bytes:
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length) > MAX_BODY:
        raise TooLarge
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            raise TooLarge
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


async def _answer(send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    body = msgspec.json.encode({"received" if status < 300 else "error": text})
    sized = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [JSON, sized, *headers]})
    await send({"type": "http.response.body", "body": body})
