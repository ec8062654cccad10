"""Signing a webhook, and making secrets for it."""

import base64
import secrets
from datetime import UTC, datetime

from standardwebhooks import Webhook

PREFIX = "whsec_"


def new_secret() -> str:
    """Return a new signing secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()


def is_secret(text: str) -> bool:
    """Say whether it is a signing secret: `whsec_` and base64."""
    try:
        return text.startswith(PREFIX) and bool(base64.b64decode(text.removeprefix(PREFIX), validate=True))
    except ValueError:
        return False


def headers(secret: str, message_id: str, at_seconds: int, body: str) -> dict[str, str]:
    """Return the headers by which a receiver knows a webhook as Clerk's."""
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(at_seconds, UTC), body)
    return {
        "content-type": "application/json",
        "svix-id": message_id,
        "svix-timestamp": str(at_seconds),
        "svix-signature": signature,
        "user-agent": "Svix-Webhooks/clerk-emulator",
    }
