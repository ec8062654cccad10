"""Deliveries as rows of text, and payloads with secrets redacted."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from instep.console.components import StatusBadge
from instep.core.i18n import FormattedTime, Localizer
from instep.webhooks.repository import DeliveryRow

REDACTED = "(hidden)"
MAX_PAYLOAD_LENGTH = 200_000
# Clerk's events carry accept links, one-time codes, and the text of messages that hold them.
SECRET_NAME_PATTERN = re.compile(
    r"(^|_)(password|secret|token|ticket|otp|code|nonce|signature|digest|backup_codes?|api_?key|private_?key)s?$"
    r"|^(url|action_url|magic_link)$"
)
_NAME_SEPARATOR_PATTERN = re.compile(
    r"(?<=[a-z0-9])(?=[A-Z])|\W+"
)  # accessToken and x-token are access_token and x_token
SECRET_VALUE_PATTERN = re.compile(
    r"__clerk_ticket=|[?&](token|ticket|code)=|\b(sk|ak|rk)_(live|test)_|\bwhsec_|\beyJ[\w-]{10,}\."
)
MESSAGE_FAMILIES = ("email", "sms")
MESSAGE_TEXT_FIELDS = frozenset({"body", "body_plain", "message", "data", "subject"})


def redact_payload(type: str, body: str) -> str:
    """The body as indented JSON, cut where it is long. Secrets are replaced; of what is no JSON, all of it is.

    What is nested too deeply to be searched for secrets is replaced as a whole, too.
    """
    try:
        return _redact_payload(type, body)
    except (msgspec.MsgspecError, RecursionError):
        return REDACTED


def _redact_payload(type: str, body: str) -> str:
    said = msgspec.json.decode(body)
    is_message = type.partition(".")[0] in MESSAGE_FAMILIES
    if is_message and isinstance(said, dict) and isinstance(said.get("data"), dict):
        inside = {name: REDACTED if name in MESSAGE_TEXT_FIELDS else value for name, value in said["data"].items()}
        said = {**said, "data": inside}
    text = msgspec.json.format(msgspec.json.encode(_redact_value(said))).decode()
    return text if len(text) <= MAX_PAYLOAD_LENGTH else text[:MAX_PAYLOAD_LENGTH] + "\n..."


def _redact_value(value: Any, name: str = "") -> Any:
    """`name` is the one that the value stands under; what stands under a secret's is hidden as a whole."""
    if value is None or isinstance(value, bool):
        return value
    if SECRET_NAME_PATTERN.search(_NAME_SEPARATOR_PATTERN.sub("_", name).lower()):
        return REDACTED
    if isinstance(value, dict):
        return {_redact_value(key): _redact_value(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redact_value(inner) for inner in value]
    return REDACTED if isinstance(value, str) and SECRET_VALUE_PATTERN.search(value) else value


def make_delivery_status(state: str, words: Localizer) -> StatusBadge:
    """How a delivery stands."""
    _ = words.gettext
    known: dict[str, StatusBadge] = {
        "new": StatusBadge(_("New"), "clock", "info"),
        "waiting": StatusBadge(_("Tried again later"), "clock", "info"),
        "settled": StatusBadge(_("Done"), "circle-check", "good"),
        "parked": StatusBadge(_("Parked"), "triangle-alert", "warn"),
        "foreign": StatusBadge(_("Not applied"), "circle-minus", "quiet"),
    }
    return known[state]


def describe_outcome(outcome: str | None, words: Localizer) -> str:
    """What a delivery did, or why it waits."""
    _ = words.gettext
    known = {
        "changed": _("Changed the database"),
        "older": _("Nothing: newer news was here"),
        "same": _("Nothing: it was so already"),
        "gone": _("Nothing: it was deleted before"),
        "not kept": _("Nothing: an event that is not kept"),
        "nothing to keep": _("Nothing to keep"),
        "pages refreshed": _("Open pages were refreshed"),
        "session ended": _("Ended a session"),
        "settled by reading Clerk": _("Settled by reading Clerk"),
        "foreign": _("Nothing: it came from another Clerk instance, such as a test from the dashboard"),
        "replayed": _("To be worked once more"),
    }
    return known.get(outcome or "") or outcome or ""


class DeliveryView(Struct, frozen=True, kw_only=True):
    """One delivery. `about` names whom and what it is about, `did` what it did, or why it waits."""

    id: str
    type: str
    about: tuple[str, ...]
    state: str
    status: StatusBadge
    outcome_text: str
    tries: int
    received: FormattedTime
    ended: FormattedTime | None
    next_try: FormattedTime | None
    can_replay: bool
    href: str


class DeliveryAuditView(Struct, frozen=True, kw_only=True):
    """Something that the audit knows of a delivery."""

    action_label: str
    target_label: str
    actor_label: str
    at: FormattedTime


def make_delivery_view(it: DeliveryRow, names: Mapping[str, str], words: Localizer, *, now: int) -> DeliveryView:
    """A delivery in words."""
    is_foreign = it.outcome == "foreign"  # about nobody here
    about = [] if is_foreign else [names.get(id, id) for id in (it.user_id, it.organization_id) if id]
    is_ended = it.state in ("settled", "parked")
    return DeliveryView(
        id=it.id,
        type=it.type,
        about=tuple(about),
        state=it.state,
        status=make_delivery_status("foreign" if is_foreign else it.state, words),
        outcome_text=describe_outcome(it.outcome, words),
        tries=it.attempts + is_ended,
        received=words.ago(it.received_at, now),
        ended=words.ago(it.settled_at, now) if it.settled_at else None,
        next_try=words.until(it.due_at, now) if it.due_at and it.due_at > now else None,
        can_replay=is_ended,
        href=f"/deliveries/{it.id}",
    )


def collect_ids(rows: Sequence[DeliveryRow]) -> list[str]:
    """Every id that should be told by a name."""
    return list(dict.fromkeys(id for row in rows for id in (row.user_id, row.organization_id) if id))
