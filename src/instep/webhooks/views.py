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


def redact_payload(event_type: str, body: str) -> str:
    """Return the body as indented JSON, with secrets replaced, truncated to MAX_PAYLOAD_LENGTH.

    Text that is not JSON, or is nested too deeply to be searched, is replaced as a whole.
    """
    try:
        return _redact_payload(event_type, body)
    except (msgspec.MsgspecError, RecursionError):
        return REDACTED


def _redact_payload(event_type: str, body: str) -> str:
    payload = msgspec.json.decode(body)
    is_message = event_type.partition(".")[0] in MESSAGE_FAMILIES
    if is_message and isinstance(payload, dict) and isinstance(payload.get("data"), dict):
        data = {name: REDACTED if name in MESSAGE_TEXT_FIELDS else value for name, value in payload["data"].items()}
        payload = {**payload, "data": data}
    text = msgspec.json.format(msgspec.json.encode(_redact_value(payload))).decode()
    return text if len(text) <= MAX_PAYLOAD_LENGTH else text[:MAX_PAYLOAD_LENGTH] + "\n..."


def _redact_value(value: Any, name: str = "") -> Any:
    """Replace secrets in a value. The value of a field with a secret's name is replaced as a whole."""
    if value is None or isinstance(value, bool):
        return value
    if SECRET_NAME_PATTERN.search(_NAME_SEPARATOR_PATTERN.sub("_", name).lower()):
        return REDACTED
    if isinstance(value, dict):
        return {_redact_value(key): _redact_value(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redact_value(inner) for inner in value]
    return REDACTED if isinstance(value, str) and SECRET_VALUE_PATTERN.search(value) else value


def make_delivery_status(state: str, localizer: Localizer) -> StatusBadge:
    """Return the badge of a delivery's state."""
    _ = localizer.gettext
    badges: dict[str, StatusBadge] = {
        "new": StatusBadge(_("New"), "clock", "info"),
        "waiting": StatusBadge(_("Retrying"), "clock", "info"),
        "settled": StatusBadge(_("Done"), "circle-check", "good"),
        "parked": StatusBadge(_("Failed"), "triangle-alert", "warn"),
        "foreign": StatusBadge(_("Not applied"), "circle-minus", "quiet"),
    }
    return badges[state]


def describe_outcome(outcome: str | None, localizer: Localizer) -> str:
    """Return the outcome of a delivery as text, or the reason that it waits or failed."""
    _ = localizer.gettext
    messages = {
        "changed": _("Changed the database"),
        "older": _("No change: a newer state was already stored"),
        "same": _("No change: already up to date"),
        "gone": _("No change: already deleted"),
        "not kept": _("No change: this event is not used"),
        "nothing to keep": _("No change: nothing to store"),
        "pages refreshed": _("Open pages were refreshed"),
        "session ended": _("Ended a session"),
        "settled by reading Clerk": _("Resolved by reading from Clerk"),
        "foreign": _("No change: it came from another Clerk instance, such as a test from the dashboard"),
        "replayed": _("Scheduled for replay"),
    }
    return messages.get(outcome or "") or outcome or ""


class DeliveryView(Struct, frozen=True, kw_only=True):
    """A delivery as text. `about` has the names of the user and the organization that it is about."""

    id: str
    type: str
    about: tuple[str, ...]
    state: str
    status: StatusBadge
    outcome_text: str
    attempts: int
    received_at: FormattedTime
    processed_at: FormattedTime | None
    next_attempt_at: FormattedTime | None
    can_replay: bool
    href: str


class DeliveryAuditView(Struct, frozen=True, kw_only=True):
    """An audit entry about a delivery, as text."""

    action_label: str
    target_label: str
    actor_label: str
    at: FormattedTime


def make_delivery_view(row: DeliveryRow, names: Mapping[str, str], localizer: Localizer, *, now: int) -> DeliveryView:
    """Return a delivery as text."""
    is_foreign = row.outcome == "foreign"  # its ids are unknown to this instance
    about = [] if is_foreign else [names.get(each, each) for each in (row.user_id, row.organization_id) if each]
    is_finished = row.state in ("settled", "parked")
    return DeliveryView(
        id=row.id,
        type=row.type,
        about=tuple(about),
        state=row.state,
        status=make_delivery_status("foreign" if is_foreign else row.state, localizer),
        outcome_text=describe_outcome(row.outcome, localizer),
        attempts=row.attempts + is_finished,
        received_at=localizer.ago(row.received_at, now),
        processed_at=localizer.ago(row.settled_at, now) if row.settled_at else None,
        next_attempt_at=localizer.until(row.due_at, now) if row.due_at and row.due_at > now else None,
        can_replay=is_finished,
        href=f"/deliveries/{row.id}",
    )


def collect_ids(rows: Sequence[DeliveryRow]) -> list[str]:
    """Return the ids in these deliveries that may have a name."""
    return list(dict.fromkeys(each for row in rows for each in (row.user_id, row.organization_id) if each))
