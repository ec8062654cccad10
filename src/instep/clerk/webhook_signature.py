"""Verification of webhook signatures and decoding of the webhook envelope."""

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
    """Not signed with any of our secrets, or signed too long ago: answered with 401."""

    def __init__(self, message: str, *, code: str = "bad_signature") -> None:
        super().__init__(message, code=code)


class MalformedWebhookError(PermanentError):
    """Signed headers missing or a body that is no Clerk event: answered with 400."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_delivery")


class WebhookVerifier:
    """Holds the signing secrets (`whsec_...`), several while one is being changed. Raises ValueError for a bad one."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [_decode_secret(secret) for secret in secrets]

    def open(self, headers: Mapping[str, str], body: bytes, *, now: int) -> VerifiedDelivery:
        """The delivery, if it is really Clerk's. `now` is Unix milliseconds.

        Raises WebhookSignatureError (no secret matches, or the timestamp is more than 5 minutes off) and MalformedWebhookError
        (headers missing or malformed, body no event). Scheme: the Standard Webhooks specification; Svix's names
        of the headers and the neutral ones are both read.
        """
        id, stamp, signature = (_read_header(headers, name) for name in ("id", "timestamp", "signature"))
        sent_at = _parse_timestamp(stamp) * 1_000
        if abs(now - sent_at) > TIMESTAMP_TOLERANCE:
            raise WebhookSignatureError("The delivery was signed more than 5 minutes from now.", code="stale")
        self._check(id, stamp, signature, body)
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
            id=id,
            type=envelope.type,
            instance_id=envelope.instance_id,
            body=body,
            received_at=now,
            user=user,
            organization=organization,
        )

    def _check(self, id: str, stamp: str, signature: str, body: bytes) -> None:
        """Compare signatures of the bytes as they came: no copy of a body is made for a sender who is not Clerk."""
        sent = [part.encode() for part in signature.split(" ")]
        for key in self._keys:
            mac = hmac.new(key, f"{id}.{stamp}.".encode(), sha256)
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
        raise ValueError("A webhook signing secret is not of the form whsec_ and base64.") from error


def _read_header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(f"svix-{name}") or headers.get(f"webhook-{name}")
    if not value:
        raise MalformedWebhookError(f"The header svix-{name} is missing.")
    if not (value.isascii() and value.isprintable()) or len(value) > MAX_HEADER_LENGTH:
        raise MalformedWebhookError(f"The header svix-{name} is malformed.")
    return value


def _parse_timestamp(stamp: str) -> int:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise MalformedWebhookError("The header svix-timestamp is not a Unix time in seconds.")
    return int(stamp)
