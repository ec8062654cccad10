"""A webhook's signature and envelope: pure, given the secrets, the headers, the body and the time."""

import binascii
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256

from instep.clerk.subject import subject
from instep.clerk.wire import Unreadable, read_envelope
from instep.identity.events import Delivery
from instep.kit.clock import MINUTE
from instep.kit.errors import PermanentError

TOLERANCE = 5 * MINUTE
LONGEST_HEADER = 2_048
_BASE64 = re.compile(r"[A-Za-z0-9+/]{22,}={0,2}")  # 16 bytes or more; Svix makes 24


class BadSignature(PermanentError):
    """Not signed with any of our secrets, or signed too long ago: answered with 401."""

    def __init__(self, message: str, *, code: str = "bad_signature") -> None:
        super().__init__(message, code=code)


class BadDelivery(PermanentError):
    """Signed headers missing or a body that is no Clerk event: answered with 400."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="bad_delivery")


class Verifier:
    """Holds the signing secrets (`whsec_...`), several while one is being changed. Raises ValueError for a bad one."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [_key_of(secret) for secret in secrets]

    def open(self, headers: Mapping[str, str], body: bytes, *, now: int) -> Delivery:
        """The delivery, if it is really Clerk's. `now` is Unix milliseconds.

        Raises BadSignature (no secret matches, or the timestamp is more than 5 minutes off) and BadDelivery
        (headers missing or malformed, body no event). Scheme: the Standard Webhooks specification; Svix's names
        of the headers and the neutral ones are both read.
        """
        id, stamp, signature = (_header(headers, name) for name in ("id", "timestamp", "signature"))
        sent_at = _seconds(stamp) * 1_000
        if abs(now - sent_at) > TOLERANCE:
            raise BadSignature("The delivery was signed more than 5 minutes from now.", code="stale")
        self._check(id, stamp, signature, body)
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise BadDelivery("The body is not UTF-8.") from error
        try:
            envelope = read_envelope(body)
        except Unreadable as error:
            raise BadDelivery(str(error)) from error
        user, organization = subject(envelope.type, envelope.data)
        return Delivery(
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
        raise BadSignature("The signature does not match any signing secret.")


def _key_of(secret: str) -> bytes:
    try:
        text = secret.removeprefix("whsec_")
        if not _BASE64.fullmatch(text):
            raise ValueError
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("A webhook signing secret is not of the form whsec_ and base64.") from error


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(f"svix-{name}") or headers.get(f"webhook-{name}")
    if not value:
        raise BadDelivery(f"The header svix-{name} is missing.")
    if not (value.isascii() and value.isprintable()) or len(value) > LONGEST_HEADER:
        raise BadDelivery(f"The header svix-{name} is malformed.")
    return value


def _seconds(stamp: str) -> int:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise BadDelivery("The header svix-timestamp is not a Unix time in seconds.")
    return int(stamp)
