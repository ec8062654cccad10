"""What a delivery said, for people to read: indented, and without anything that opens a door. Pure."""

import re
from typing import Any

import msgspec

HIDDEN = "(hidden)"
LONGEST = 200_000
# Clerk's events carry accept links, one-time codes, and the text of messages that hold them.
SECRET_NAMES = re.compile(
    r"(^|_)(password|secret|token|ticket|otp|code|nonce|signature|digest|backup_codes?|api_?key|private_?key)s?$"
    r"|^(url|action_url|magic_link)$"
)
_PARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|\W+")  # accessToken and x-token are access_token and x_token
SECRET_VALUES = re.compile(
    r"__clerk_ticket=|[?&](token|ticket|code)=|\b(sk|ak|rk)_(live|test)_|\bwhsec_|\beyJ[\w-]{10,}\."
)
MESSAGES = ("email", "sms")
MESSAGE_TEXTS = frozenset({"body", "body_plain", "message", "data", "subject"})


def shown(type: str, body: str) -> str:
    """The body as indented JSON, cut where it is long. Secrets are replaced; of what is no JSON, all of it is.

    What is nested too deeply to be searched for secrets is replaced as a whole, too.
    """
    try:
        return _shown(type, body)
    except (msgspec.MsgspecError, RecursionError):
        return HIDDEN


def _shown(type: str, body: str) -> str:
    said = msgspec.json.decode(body)
    is_message = type.partition(".")[0] in MESSAGES
    if is_message and isinstance(said, dict) and isinstance(said.get("data"), dict):
        inside = {name: HIDDEN if name in MESSAGE_TEXTS else value for name, value in said["data"].items()}
        said = {**said, "data": inside}
    text = msgspec.json.format(msgspec.json.encode(_without_secrets(said))).decode()
    return text if len(text) <= LONGEST else text[:LONGEST] + "\n..."


def _without_secrets(value: Any, name: str = "") -> Any:
    """`name` is the one that the value stands under; what stands under a secret's is hidden as a whole."""
    if value is None or isinstance(value, bool):
        return value
    if SECRET_NAMES.search(_PARTS.sub("_", name).lower()):
        return HIDDEN
    if isinstance(value, dict):
        return {_without_secrets(key): _without_secrets(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    return HIDDEN if isinstance(value, str) and SECRET_VALUES.search(value) else value
