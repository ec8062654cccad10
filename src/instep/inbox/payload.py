"""What a delivery said, for people to read: indented, and without anything that opens a door. Pure."""

import re
from typing import Any

import msgspec

HIDDEN = "(hidden)"
LONGEST = 200_000
# Clerk's events carry accept links, one-time codes, and the text of messages that hold them.
SECRET_NAMES = re.compile(
    r"(^|_)(password|secret|token|ticket|otp|code|nonce|signature|digest|backup_codes?|api_key|private_key)s?$"
    r"|^(url|action_url|magic_link)$"
)
SECRET_VALUES = re.compile(
    r"__clerk_ticket=|[?&](token|ticket|code)=|\b(sk|ak|rk)_(live|test)_|\bwhsec_|\beyJ[\w-]{10,}\."
)
MESSAGES = ("email", "sms")
MESSAGE_TEXTS = frozenset({"body", "body_plain", "message", "data", "subject"})


def shown(type: str, body: str) -> str:
    """The body as indented JSON; one that is none, as it is. Secrets are replaced, long ones are cut."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return SECRET_VALUES.sub(HIDDEN, body[:LONGEST])
    is_message = type.partition(".")[0] in MESSAGES
    if is_message and isinstance(said, dict) and isinstance(said.get("data"), dict):
        inside = {name: HIDDEN if name in MESSAGE_TEXTS else value for name, value in said["data"].items()}
        said = {**said, "data": inside}
    text = msgspec.json.format(msgspec.json.encode(_without_secrets(said))).decode()
    return text if len(text) <= LONGEST else text[:LONGEST] + "\n..."


def _without_secrets(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner, name) for inner in value]
    is_secret = isinstance(value, (str, int)) and not isinstance(value, bool) and SECRET_NAMES.search(name.lower())
    if is_secret or (isinstance(value, str) and SECRET_VALUES.search(value)):
        return HIDDEN
    return value
