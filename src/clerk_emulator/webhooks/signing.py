"""Webhook signatures and signing secrets."""

import base64
import hmac
import secrets

PREFIX = "whsec_"


def new_secret() -> str:
    """Return a new signing secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()


def is_secret(text: str) -> bool:
    """Return whether the text is a signing secret: `whsec_` and base64."""
    try:
        return text.startswith(PREFIX) and bool(base64.b64decode(text.removeprefix(PREFIX), validate=True))
    except ValueError:
        return False


def build_headers(secret: str, message_id: str, at_seconds: int, body: str, prefix: str = "svix") -> dict[str, str]:
    """Return the signature headers of a webhook; `prefix` is `svix` or the neutral `webhook`."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.digest(key, f"{message_id}.{at_seconds}.{body}".encode(), "sha256")
    return {
        "content-type": "application/json",
        f"{prefix}-id": message_id,
        f"{prefix}-timestamp": str(at_seconds),
        f"{prefix}-signature": "v1," + base64.b64encode(digest).decode(),
        "user-agent": "Svix-Webhooks/clerk-emulator",
    }
