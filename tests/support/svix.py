"""Signing as Svix does, written from its description alone: what instep verifies must not be made by its own code."""

import base64
import hashlib
import hmac
import itertools

SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four b").decode()
OTHER = "whsec_" + base64.b64encode(b"another one of as many b.").decode()
_numbers = itertools.count(1)


def signature(id: str, seconds: int | str, body: bytes, *, secret: str = SECRET) -> str:
    """One signature of one message."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{id}.{seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def signed(
    body: bytes, *, at: int, id: str | None = None, secret: str = SECRET, prefix: str = "svix"
) -> dict[str, str]:
    """The headers of a delivery, signed at `at` (Unix milliseconds); an id of its own unless one is given."""
    id = id or f"msg_{next(_numbers)}"
    seconds = at // 1_000
    return {
        f"{prefix}-id": id,
        f"{prefix}-timestamp": str(seconds),
        f"{prefix}-signature": signature(id, seconds, body, secret=secret),
    }
