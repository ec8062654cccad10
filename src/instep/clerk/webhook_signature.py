"""Verification of webhook signatures and parsing of the webhook envelope."""

import binascii
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256

from instep.clerk.parsing import UnreadableDataError, parse_envelope, parse_subject_ids
from instep.core.clock import MINUTE
from instep.core.errors import PermanentError
from instep.domain.events import VerifiedDelivery

TIMESTAMP_TOLERANCE = 5 * MINUTE
MAX_HEADER_LENGTH = 2_048
_SECRET_PATTERN = re.compile(r"[A-Za-z0-9+/]{22,}={0,2}")  # 16 bytes or more; Svix makes 24


class WebhookSignatureError(PermanentError):
    """No signing secret matches, or the timestamp is too old; answered with 401."""

    def __init__(self, message: str, *, code: str = "bad_signature") -> None:
        super().__init__(message, code=code)


class MalformedWebhookError(PermanentError):
    """Headers are missing or the body is no Clerk event; answered with 400."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_delivery")


class WebhookVerifier:
    """Verifies webhooks with one or more signing secrets (`whsec_...`). Raises ValueError for an invalid secret."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [_decode_secret(secret) for secret in secrets]

    def open(self, headers: Mapping[str, str], body: bytes, *, now: int) -> VerifiedDelivery:
        """Verify a webhook and return the delivery. `now` is Unix milliseconds.

        Both Svix's header names (`svix-id`) and the neutral ones of the Standard Webhooks specification are read.

        Raises:
            WebhookSignatureError: no secret matches, or the timestamp differs by more than 5 minutes.
            MalformedWebhookError: headers are missing or malformed, or the body is no event.
        """
        delivery_id, timestamp, signature = (_read_header(headers, name) for name in ("id", "timestamp", "signature"))
        sent_at = _parse_timestamp(timestamp) * 1_000
        if abs(now - sent_at) > TIMESTAMP_TOLERANCE:
            raise WebhookSignatureError("The timestamp of the delivery is more than 5 minutes off.", code="stale")
        self._check(delivery_id, timestamp, signature, body)
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise MalformedWebhookError("The body is not UTF-8.") from error
        try:
            envelope = parse_envelope(body)
        except UnreadableDataError as error:
            raise MalformedWebhookError(str(error)) from error
        user, organization = parse_subject_ids(envelope.type, envelope.data)
        return VerifiedDelivery(
            id=delivery_id,
            type=envelope.type,
            instance_id=envelope.instance_id,
            body=body,
            received_at=now,
            user=user,
            organization=organization,
        )

    def _check(self, delivery_id: str, timestamp: str, signature: str, body: bytes) -> None:
        """Compare signatures of the raw bytes; the body is not copied before the sender is authenticated."""
        sent = [part.encode() for part in signature.split(" ")]
        for key in self._keys:
            mac = hmac.new(key, f"{delivery_id}.{timestamp}.".encode(), sha256)
            mac.update(body)
            expected = b"v1," + b64encode(mac.digest())
            if any(hmac.compare_digest(expected, part) for part in sent):
                return
        raise WebhookSignatureError("The signature does not match any signing secret.")


def _decode_secret(secret: str) -> bytes:
    try:
        text = secret.removeprefix("whsec_")
        if not _SECRET_PATTERN.fullmatch(text):
            raise ValueError
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("A webhook signing secret must be whsec_ followed by base64.") from error


def _read_header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(f"svix-{name}") or headers.get(f"webhook-{name}")
    if not value:
        raise MalformedWebhookError(f"The header svix-{name} is missing.")
    if not (value.isascii() and value.isprintable()) or len(value) > MAX_HEADER_LENGTH:
        raise MalformedWebhookError(f"The header svix-{name} is malformed.")
    return value


def _parse_timestamp(timestamp: str) -> int:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise MalformedWebhookError("The header svix-timestamp is not a Unix time in seconds.")
    return int(timestamp)
