"""Parse lists of invitees, preview what would happen and send them as a batch."""

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from msgspec.structs import replace

from instep.auth.principal import OrganizationAccess
from instep.core.clock import Clock
from instep.core.clock import now as system_now
from instep.core.db import Conn, Database
from instep.core.errors import InstepError
from instep.core.i18n import lazy_gettext
from instep.core.ids import new_id
from instep.domain.emails import canonicalize_email
from instep.domain.errors import NOT_FOUND, ClerkRejectedError
from instep.domain.models import MEMBER_ROLE, ClerkId
from instep.domain.ports import ClerkReader
from instep.domain.roles import UNKNOWN_ROLES, RoleCatalog
from instep.invitations import policies, repository
from instep.invitations.models import (
    BATCH_KIND,
    DEFAULT_EXPIRY_DAYS,
    InvitationBatchPreview,
    InvitationBatchProgress,
    InviteeDecision,
    InviteeInput,
    InviteeVerdict,
    build_batch_progress,
    split_into_parts,
)
from instep.invitations.policies import (
    MAX_EMAIL_LENGTH,
    InvitationRefusedError,
    authorize_organization_admin,
    convert_clerk_error,
    get_inviter_id,
    validate_email,
    validate_expiry_days,
    validate_name,
    validate_role,
)
from instep.invitations.repository import list_recent_send_records
from instep.mirror.repository import count_members, find_organization
from instep.operations.executor import OperationExecutor
from instep.operations.repository import find_operation
from instep.operations.workflow import Operation, OperationRequest

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BulkInvitationService:
    """Invites a list of people to an organization. `redirect_url` is where an accepted invitation leads."""

    db: Database
    runner: OperationExecutor
    directory: ClerkReader
    redirect_url: str | None
    clock: Clock = field(default=system_now)

    async def preview(self, access: OrganizationAccess, wishes: Sequence[InviteeInput]) -> InvitationBatchPreview:
        """What would become of each; nothing is sent.

        1 the right is checked; 2 Clerk's pending invitations and the members are read; 3 each is decided.
        Raises InvitationRefusedError and, where Clerk does not answer, ClerkUnavailableError.
        """
        organization = authorize_organization_admin(access)
        try:
            pending = await self.directory.list_invitations(organization, statuses=("pending",))
        except ClerkRejectedError as refusal:
            raise convert_clerk_error(refusal, email="", role="") from refusal
        holders = await self._holders([wish.email for wish in wishes])
        return await self.db.read(
            self._decide, access, wishes, {canonicalize_email(it.email) for it in pending}, holders
        )

    async def send(
        self,
        access: OrganizationAccess,
        wishes: Sequence[InviteeInput],
        *,
        expires_in_days: int = DEFAULT_EXPIRY_DAYS,
        notify: bool = True,
        idempotency_key: str | None = None,
    ) -> InvitationBatchProgress:
        """Invite everyone who can be invited; the others are in the batch too, with why they were skipped.

        1 as `preview`; 2 the batch is kept, unless it would be too many for today; 3 in the same transaction with its
        end its parts are queued, ten to a bulk call, and the worker sends them when Clerk takes them.
        Raises InvitationRefusedError (nothing was changed).
        """
        organization = authorize_organization_admin(access)
        preview = await self.preview(access, wishes)
        asked = OperationRequest(
            kind=BATCH_KIND,
            target=f"batch:{idempotency_key or new_id('bat')}",
            actor=access.principal.id,
            organization_id=access.organization_id,
            idempotency_key=idempotency_key,
            intent={
                "organization": organization,
                "rows": [_build_intent_row(number, line) for number, line in enumerate(preview.lines)],
                "expires_in_days": validate_expiry_days(expires_in_days),
                "notify": notify,
                "inviter": get_inviter_id(access),
                "redirect_url": self.redirect_url,
            },
        )
        operation = await self.runner.run(asked, precondition=partial(self._check, access=access, lines=preview.lines))
        return await self.db.read(_load_batch_progress, operation)

    async def find(self, id: str) -> InvitationBatchProgress | None:
        """How a batch stands; whoever asks must be asked for their access to its organization."""
        operation = await self.db.read(find_operation, id)
        if operation is None or operation.kind != BATCH_KIND:
            return None
        return await self.db.read(_load_batch_progress, operation)

    async def get(self, access: OrganizationAccess, id: str) -> InvitationBatchProgress:
        """How a batch of this organization stands. Raises InvitationRefusedError with 404 for any other."""
        authorize_organization_admin(access, doing="see this")
        found = await self.find(id)
        if found is None or found.organization_id != access.organization_id:
            raise InvitationRefusedError("There is no such batch.", code="batch_not_found", status=NOT_FOUND)
        return found

    async def _holders(self, emails: Sequence[str]) -> dict[str, ClerkId]:
        """Return whose addresses these are in Clerk: one of a member's may be another than the one we know."""
        valid = [email for email in emails if "@" in email and len(email) <= MAX_EMAIL_LENGTH and email.isprintable()]
        try:
            return await self.directory.find_user_ids_by_email(valid) if valid else {}
        except InstepError as error:
            log.warning("holders_unknown", error=str(error))
            return {}

    def _decide(
        self,
        conn: Conn,
        access: OrganizationAccess,
        wishes: Sequence[InviteeInput],
        invited: set[str],
        holders: Mapping[str, ClerkId],
    ) -> InvitationBatchPreview:
        emails = {canonicalize_email(wish.email.strip()) for wish in wishes}
        standing = {
            it.email: it.status
            for it in repository.list_address_membership_statuses(conn, access.organization_id, emails, holders)
        }
        organization = find_organization(conn, access.organization_id)
        seats = organization.max_members if organization else None
        totals = count_members(conn, access.organization_id)
        used = sum(count for (status, _), count in totals.items() if status != "removed") + len(invited)
        free = None if seats is None else max(0, seats - used)
        lines = tuple(decide_invitees(wishes, standing=standing, invited=invited, free=free, roles=access.roles))
        sent = sum(line.is_sent for line in lines)
        return InvitationBatchPreview(
            lines=lines, sent=sent, seats=seats, seats_used=used, refusal=self._refusal(conn, access, lines)
        )

    def _refusal(self, conn: Conn, access: OrganizationAccess, lines: Sequence[InviteeDecision]) -> str | None:
        try:
            self._check(conn, access=access, lines=lines)
        except InvitationRefusedError as refused:
            return str(refused)
        return None

    def _check(self, conn: Conn, *, access: OrganizationAccess, lines: Sequence[InviteeDecision]) -> None:
        now = self.clock()
        wanted = [line.email for line in lines if line.is_sent]
        policies.check_daily_limits(
            list_recent_send_records(conn, access, now=now), actor=access.principal.id, emails=wanted, now=now
        )


def _load_batch_progress(conn: Conn, operation: Operation) -> InvitationBatchProgress:
    count = len(split_into_parts(operation.intent["rows"]))
    return build_batch_progress(operation, repository.list_batch_parts(conn, operation, count=count))


def _build_intent_row(number: int, line: InviteeDecision) -> dict[str, Any]:
    row: dict[str, Any] = {"n": number, "email": line.email, "role": line.role}
    if line.name:
        row["name"] = line.name
    return row if line.is_sent else row | {"code": line.verdict, "reason": line.note}


MAX_INVITEES = 1_000
MAX_TEXT_LENGTH = 200_000
VERDICT_NOTES: dict[str, str] = {
    "new": "Will be invited.",
    "former": "Was a member before; will be invited again.",
    "member": "Is a member already.",
    "deactivated": "Is a member who is deactivated; reactivate them instead.",
    "invited": "Has a pending invitation already.",
    "duplicate": "Is in the list more than once.",
    "over_seats": "No seat is left.",
}
_CSV_COLUMNS = {"email": "email", "e-mail": "email", "email_address": "email", "role": "role", "name": "name"}


def parse_invitees(text: str, *, role: str = MEMBER_ROLE, roles: RoleCatalog = UNKNOWN_ROLES) -> list[InviteeInput]:
    """The people that a text names: CSV where its first line has a column `email`, else addresses in any order.

    `role` is for those whose role the text does not tell, `roles` are those that there are.
    Raises InvitationRefusedError for what is too long or is nobody.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise InvitationRefusedError("This list is too long to be read at once.", code="too_many", field="text")
    try:
        found = _parse_csv(text, role, roles) if _parse_csv_header(_first_line(text)) else _parse_plain_text(text, role)
    except csv.Error as error:
        raise InvitationRefusedError(
            lazy_gettext("This CSV can't be read: %(error)s.", error=error), code="invalid_csv", field="text"
        ) from error
    if not found:
        raise InvitationRefusedError("There is no address in this list.", code="nobody", field="text")
    if len(found) > MAX_INVITEES:
        words = lazy_gettext(
            "This list has %(count)s addresses; %(most)s can be read at once.",
            count=len(found),
            most=MAX_INVITEES,
        )
        raise InvitationRefusedError(words, code="too_many", field="text")
    return found


def decide_invitees(
    wishes: Sequence[InviteeInput],
    *,
    standing: Mapping[str, str],
    invited: Collection[str],
    free: int | None,
    roles: RoleCatalog = UNKNOWN_ROLES,
) -> list[InviteeDecision]:
    """What would become of each.

    `standing` and `invited` are by canonical address; `free` are the seats that are left, None: no limit.
    """
    seen: set[str] = set()
    lines: list[InviteeDecision] = []
    for wish in wishes:
        line = _decide_invitee(wish, standing, invited, seen, roles)
        if line.is_sent and free is not None and sum(it.is_sent for it in lines) >= free:
            line = _with_verdict(line, "over_seats")
        seen.add(canonicalize_email(line.email))
        lines.append(line)
    return lines


def _decide_invitee(
    wish: InviteeInput, standing: Mapping[str, str], invited: Collection[str], seen: Collection[str], roles: RoleCatalog
) -> InviteeDecision:
    line = InviteeDecision(
        email=wish.email[:MAX_EMAIL_LENGTH], role=wish.role, name=wish.name, verdict="invalid", note=""
    )
    try:
        line = replace(line, email=validate_email(wish.email), name=validate_name(wish.name))
        validate_role(roles, wish.role)
    except InvitationRefusedError as refused:
        return replace(line, name=None, note=str(refused))
    address = canonicalize_email(line.email)
    if address in seen:
        return _with_verdict(line, "duplicate")
    known = standing.get(address)
    if known in ("member", "deactivated"):
        return replace(line, verdict="member", note=VERDICT_NOTES[known])
    if address in invited:
        return _with_verdict(line, "invited")
    return _with_verdict(line, "former" if known else "new")


def _with_verdict(line: InviteeDecision, verdict: InviteeVerdict) -> InviteeDecision:
    return replace(line, verdict=verdict, note=VERDICT_NOTES[verdict])


def _first_line(text: str) -> str:
    return next(iter(text.lstrip("\ufeff \t\r\n").splitlines()), "")


def _parse_csv_header(line: str) -> list[str] | None:
    """What each column of a CSV's head is for; None where it is no head."""
    cells = next(csv.reader([line], delimiter=_detect_delimiter(line)), [])
    columns = [_CSV_COLUMNS.get(cell.strip().lower(), "") for cell in cells]
    return columns if "email" in columns else None


def _detect_delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _parse_csv(text: str, role: str, roles: RoleCatalog) -> list[InviteeInput]:
    text = text.lstrip("\ufeff \t\r\n")
    head = _first_line(text)
    columns = _parse_csv_header(head) or []
    found = []
    for cells in list(csv.reader(io.StringIO(text), delimiter=_detect_delimiter(head)))[1:]:
        row = {column: cell.strip() for column, cell in zip(columns, cells, strict=False) if column}
        if any(row.values()):
            wanted = roles.find_key(row["role"]) if row.get("role") else role
            found.append(InviteeInput(email=row.get("email", ""), role=wanted, name=row.get("name") or None))
    return found


def _parse_plain_text(text: str, role: str) -> list[InviteeInput]:
    return [InviteeInput(email=email, role=role, name=name) for email, name in _parse_addresses(text)]


_ADDRESS_TOKEN_PATTERN = re.compile(
    r'"(?P<quoted>(?:[^"\\\n]|\\.)*)"|<(?P<angle>[^<>\n]*)>|(?P<separator>[,;\t\n])|(?P<word>[^\s,;<"]+|[<"])'
)


def _parse_addresses(text: str) -> list[tuple[str, str | None]]:
    """Read the addresses of a text, each with its name where one stands before `<address>`.

    A name may be quoted, and may hold a comma (`Roe, Richard <richard@x.com>`); entries end at a comma, a semicolon, a
    tab or a line. What is no address is given back as one, so that nothing that was typed gets lost.
    """
    found: list[tuple[str, str | None]] = []
    name: list[str] = []  # words since the last address that may be the name of the next one
    for token in _ADDRESS_TOKEN_PATTERN.finditer(text):
        kind, value = token.lastgroup, token[token.lastgroup or 0]
        if kind == "angle":
            addresses = value.split() or [token[0]]
            found += [(it, _join_name(name)) for it in addresses]
            name = []
        elif kind == "quoted":
            name.append(re.sub(r"\\(.)", r"\1", value))
        elif kind == "word" and "@" in value:
            found += [*_treat_as_addresses(name), (value, None)]
            name = []
        elif kind == "word":
            name.append(value)
        elif value == "," and name:
            name.append(",")
        else:
            found += _treat_as_addresses(name)
            name = []
    return found + _treat_as_addresses(name)


def _join_name(words: Sequence[str]) -> str | None:
    return " ".join(words).replace(" ,", ",").strip(", ") or None


def _treat_as_addresses(words: Sequence[str]) -> list[tuple[str, str | None]]:
    """Give back words that are nobody's name, each as an address that is none."""
    return [(it, None) for it in words if it != ","]
