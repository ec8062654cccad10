"""Receive webhook deliveries: verify, store once, answer after the commit."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import structlog
from starlette.requests import ClientDisconnect

from instep.core.clock import Clock
from instep.core.db import Database, limit_database_waits
from instep.core.db_errors import DatabaseRejectedError, DatabaseValueError
from instep.core.errors import PermanentError, TemporaryError, describe_error
from instep.domain.events import VerifiedDelivery
from instep.webhooks import repository

log = structlog.get_logger(__name__)
WEBHOOK_PATHS = frozenset({"/webhooks/clerk", "/api/webhooks/clerk"})
ERROR_STATUSES = {"bad_signature": 401, "stale": 401, "bad_delivery": 400}
JSON_HEADER = (b"content-type", b"application/json")
MAX_BODY_SIZE = 1024 * 1024
DATABASE_TIMEOUT = 4.0  # seconds; Clerk gives up after 15, and a delivery may wait for the commit before its own
Scope = Any
Receive = Any
Send = Any


class BodyTooLargeError(Exception):
    """The body of a request is larger than MAX_BODY_SIZE."""


class DeliveryVerifier(Protocol):
    """Verifies the signature of a delivery, as `instep.clerk.webhook_signature.WebhookVerifier` does."""

    def open(self, headers: Mapping[str, str], body: bytes, *, now: int) -> VerifiedDelivery: ...


@dataclass
class WebhookReceiver:
    """Verify and store deliveries; concurrent ones share a transaction.

    `wake` is called after each commit, so that the worker starts immediately. `database_wait`: seconds that a delivery
    waits for the database; after that the response makes Clerk send it again.
    """

    db: Database
    verifier: DeliveryVerifier
    clock: Clock
    wake: Callable[[], None]
    database_wait: float = DATABASE_TIMEOUT
    _waiting: list[tuple[VerifiedDelivery, asyncio.Future[None]]] = field(default_factory=list)
    _writing: asyncio.Task[None] | None = None

    async def receive(self, headers: Mapping[str, str], body: bytes) -> VerifiedDelivery:
        """Verify and store a delivery. Return it after the commit.

        Raises WebhookSignatureError and MalformedWebhookError (nothing is stored), and DatabaseUnavailableError (Clerk
        sends it again).
        """
        delivery = self.verifier.open(headers, body, now=self.clock())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await done
        return delivery

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._write(batch)
        self._writing = None

    async def _write(self, batch: list[tuple[VerifiedDelivery, asyncio.Future[None]]]) -> None:
        error: Exception | None = None
        try:
            with limit_database_waits(self.database_wait):
                await self.db.write(repository.insert_deliveries, [delivery for delivery, _ in batch])
        except DatabaseValueError as rejected:
            if len(batch) > 1:  # the database rejects one of them: store the others without it
                for pending in batch:
                    await self._write([pending])
                return
            error = rejected
        except Exception as raised:  # every waiting request needs a response
            error = raised
        for _, done in batch:
            if done.cancelled():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
        self.wake()


class WebhookEndpoint:
    """ASGI endpoint of `POST /webhooks/clerk`: 202 after a delivery is stored.

    413: over 1 MiB; 401: invalid or expired signature; 400: malformed; 503: database or internal failure, then Clerk
    sends it again. A delivery of another Clerk instance (a test from the dashboard) is stored like any other.
    """

    def __init__(self, receiver: WebhookReceiver) -> None:
        self._receiver = receiver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["method"] != "POST":
            await _send_json(send, 405, "Use POST to send deliveries.", (b"allow", b"POST"))
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            body = await _read_body(headers, receive)
            delivery = await self._receiver.receive(headers, body)
        except ClientDisconnect:
            log.debug("client_disconnected", path=scope.get("path"))
        except BodyTooLargeError:
            await _send_json(send, 413, "A delivery is at most 1 MiB.")
        except DatabaseRejectedError as error:
            log.warning(
                "webhook_delivery_rejected",
                code=error.code,
                svix_id=headers.get("svix-id"),
                error=describe_error(error),
            )
            await _send_json(send, 400, "The database cannot store this delivery.")
        except PermanentError as error:
            log.info("webhook_delivery_rejected", code=error.code, svix_id=headers.get("svix-id"))
            await _send_json(send, ERROR_STATUSES.get(error.code, 400), str(error))
        except TemporaryError as error:
            log.warning("webhook_delivery_not_stored", error=describe_error(error))
            await _send_json(send, 503, "Not stored. Send it again.", (b"retry-after", b"5"))
        except Exception:
            log.exception("webhook_delivery_failed", svix_id=headers.get("svix-id"))
            await _send_json(send, 503, "Not stored. Send it again.", (b"retry-after", b"5"))
        else:
            await _send_json(send, 202, delivery.id)


async def _read_body(headers: dict[str, str], receive: Receive) -> bytes:
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length) > MAX_BODY_SIZE:
        raise BodyTooLargeError
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_SIZE:
            raise BodyTooLargeError
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


async def _send_json(send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    body = msgspec.json.encode({"received" if status < 300 else "error": text})
    sized = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [JSON_HEADER, sized, *headers]})
    await send({"type": "http.response.body", "body": body})
