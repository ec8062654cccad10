"""Parse lists of invitees, preview what would happen and send them as a batch."""

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from msgspec import UNSET
from msgspec.structs import replace

from instep.auth.principal import OrganizationAccess
from instep.core.clock import Clock
from instep.core.clock import now as system_now
from instep.core.db import Conn, Database
from instep.core.errors import InstepError
from instep.core.i18n import LazyString, lazy_gettext
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
    BatchIntent,
    BatchRow,
    InvitationBatchPreview,
    InvitationBatchProgress,
    InviteeDecision,
    InviteeInput,
    InviteeVerdict,
    build_batch_progress,
    list_batch_rows,
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
from instep.mirror.repository import count_members, find_organization
from instep.operations.executor import OperationExecutor
from instep.operations.repository import encode_intent, find_operation
from instep.operations.workflow import Operation, OperationRequest

log = structlog.get_logger(__name__)
MAX_INVITEES = 1_000
MAX_TEXT_LENGTH = 200_000
ONLY_ADMINS_CAN_SEE_BATCHES = lazy_gettext("Only admins can see batches of invitations.")
VERDICT_NOTES: dict[str, LazyString] = {
    "new": lazy_gettext("Will be invited."),
    "former": lazy_gettext("Was a member before. Will be invited again."),
    "member": lazy_gettext("Is already a member."),
    "deactivated": lazy_gettext("Is a deactivated member. Reactivate them instead."),
    "invited": lazy_gettext("Already has a pending invitation."),
    "duplicate": lazy_gettext("Is in the list more than once."),
    "over_seats": lazy_gettext("No seat is left."),
}
_CSV_COLUMNS = {"email": "email", "e-mail": "email", "email_address": "email", "role": "role", "name": "name"}
_ADDRESS_TOKEN_PATTERN = re.compile(
    r'"(?P<quoted>(?:[^"\\\n]|\\.)*)"|<(?P<angle>[^<>\n]*)>|(?P<separator>[,;\t\n])|(?P<word>[^\s,;<"]+|[<"])'
)


@dataclass(frozen=True)
class BulkInvitationService:
    """Invite a list of people to an organization. `redirect_url` is the page that an accepted invitation leads to."""

    db: Database
    executor: OperationExecutor
    reader: ClerkReader
    redirect_url: str | None
    clock: Clock = field(default=system_now)

    async def preview(self, access: OrganizationAccess, invitees: Sequence[InviteeInput]) -> InvitationBatchPreview:
        """Return a decision per invitee, from Clerk's pending invitations and the members; send nothing.

        Raises:
            InvitationRefusedError: no permission, or a refusal of Clerk.
            ClerkUnavailableError: Clerk did not answer.
        """
        organization_id = authorize_organization_admin(access)
        try:
            pending = await self.reader.list_invitations(organization_id, statuses=("pending",))
        except ClerkRejectedError as refusal:
            raise convert_clerk_error(refusal, email="", role="") from refusal
        invited = {canonicalize_email(it.email) for it in pending}
        holders = await self._find_address_holders([it.email for it in invitees])
        return await self.db.read(self._build_preview, access, invitees, invited, holders)

    async def send(
        self,
        access: OrganizationAccess,
        invitees: Sequence[InviteeInput],
        *,
        expires_in_days: int = DEFAULT_EXPIRY_DAYS,
        notify: bool = True,
        idempotency_key: str | None = None,
    ) -> InvitationBatchProgress:
        """Create a batch that invites everyone who can be invited; the others are in it as skipped, with the reason.

        The batch is one operation. Its parts of ten rows (a bulk call each) are inserted in the transaction that
        finishes it; the worker sends them when Clerk takes them.

        Raises:
            InvitationRefusedError: no permission, a daily limit, or a refusal of Clerk; nothing was changed.
        """
        organization_id = authorize_organization_admin(access)
        preview = await self.preview(access, invitees)
        request = OperationRequest(
            kind=BATCH_KIND,
            target=f"batch:{idempotency_key or new_id('bat')}",
            actor=access.principal.id,
            organization_id=access.organization_id,
            idempotency_key=idempotency_key,
            intent=encode_intent(
                BatchIntent(
                    organization=organization_id,
                    rows=[_build_intent_row(number, line) for number, line in enumerate(preview.lines)],
                    expires_in_days=validate_expiry_days(expires_in_days),
                    notify=notify,
                    inviter=get_inviter_id(access),
                    redirect_url=self.redirect_url,
                )
            ),
        )
        check = partial(self._check_daily_limits, access=access, lines=preview.lines)
        operation = await self.executor.run(request, precondition=check)
        return await self.db.read(_load_batch_progress, operation)

    async def find_batch(self, batch_id: str) -> InvitationBatchProgress | None:
        """Return the progress of a batch, without a permission check: callers check access to its organization."""
        operation = await self.db.read(find_operation, batch_id)
        if operation is None or operation.kind != BATCH_KIND:
            return None
        return await self.db.read(_load_batch_progress, operation)

    async def get_batch(self, access: OrganizationAccess, batch_id: str) -> InvitationBatchProgress:
        """Return the progress of a batch of this organization. Raises InvitationRefusedError (404) for any other."""
        authorize_organization_admin(access, message=ONLY_ADMINS_CAN_SEE_BATCHES)
        found = await self.find_batch(batch_id)
        if found is None or found.organization_id != access.organization_id:
            raise InvitationRefusedError(
                lazy_gettext("There is no such batch."), code="batch_not_found", status=NOT_FOUND
            )
        return found

    async def _find_address_holders(self, emails: Sequence[str]) -> dict[str, ClerkId]:
        """Return Clerk's user ids by address; the mirror knows only primary addresses. Empty if Clerk fails."""
        valid = [email for email in emails if "@" in email and len(email) <= MAX_EMAIL_LENGTH and email.isprintable()]
        try:
            return await self.reader.find_user_ids_by_email(valid) if valid else {}
        except InstepError as error:
            log.warning("invitee_lookup_failed", error=str(error))
            return {}

    def _build_preview(
        self,
        conn: Conn,
        access: OrganizationAccess,
        invitees: Sequence[InviteeInput],
        invited: set[str],
        holders: Mapping[str, ClerkId],
    ) -> InvitationBatchPreview:
        emails = {canonicalize_email(it.email.strip()) for it in invitees}
        statuses = repository.list_address_membership_statuses(conn, access.organization_id, emails, holders)
        organization = find_organization(conn, access.organization_id)
        seats = organization.max_members if organization else None
        totals = count_members(conn, access.organization_id)
        used = sum(count for (status, _), count in totals.items() if status != "removed") + len(invited)
        lines = decide_invitees(
            invitees,
            membership_statuses={it.email: it.status for it in statuses},
            invited=invited,
            free_seats=None if seats is None else max(0, seats - used),
            roles=access.roles,
        )
        return InvitationBatchPreview(
            lines=tuple(lines),
            sent=sum(line.is_sent for line in lines),
            seats=seats,
            seats_used=used,
            refusal=self._find_refusal(conn, access, lines),
        )

    def _find_refusal(self, conn: Conn, access: OrganizationAccess, lines: Sequence[InviteeDecision]) -> str | None:
        try:
            self._check_daily_limits(conn, access=access, lines=lines)
        except InvitationRefusedError as error:
            return error.text
        return None

    def _check_daily_limits(self, conn: Conn, *, access: OrganizationAccess, lines: Sequence[InviteeDecision]) -> None:
        now = self.clock()
        emails = [line.email for line in lines if line.is_sent]
        sent = repository.list_recent_send_records(conn, access, now=now)
        policies.check_daily_limits(sent, actor=access.principal.id, emails=emails, now=now)


def _load_batch_progress(conn: Conn, operation: Operation) -> InvitationBatchProgress:
    count = len(split_into_parts(list_batch_rows(operation)))
    return build_batch_progress(operation, repository.list_batch_parts(conn, operation, count=count))


def _build_intent_row(number: int, line: InviteeDecision) -> BatchRow:
    return BatchRow(
        n=number,
        email=line.email,
        role=line.role,
        name=line.name or UNSET,
        code=UNSET if line.is_sent else line.verdict,
        reason=UNSET if line.is_sent else str(line.note),
    )


def decide_invitees(
    invitees: Sequence[InviteeInput],
    *,
    membership_statuses: Mapping[str, str],
    invited: Collection[str],
    free_seats: int | None,
    roles: RoleCatalog = UNKNOWN_ROLES,
) -> list[InviteeDecision]:
    """Return a decision per invitee, in order.

    `membership_statuses` and `invited` are by canonical address; `free_seats` None: no limit.
    """
    seen: set[str] = set()
    lines: list[InviteeDecision] = []
    for invitee in invitees:
        line = _decide_invitee(invitee, membership_statuses, invited, seen, roles)
        if line.is_sent and free_seats is not None and sum(it.is_sent for it in lines) >= free_seats:
            line = _with_verdict(line, "over_seats")
        seen.add(canonicalize_email(line.email))
        lines.append(line)
    return lines


def _decide_invitee(
    invitee: InviteeInput,
    membership_statuses: Mapping[str, str],
    invited: Collection[str],
    seen: Collection[str],
    roles: RoleCatalog,
) -> InviteeDecision:
    line = InviteeDecision(
        email=invitee.email[:MAX_EMAIL_LENGTH], role=invitee.role, name=invitee.name, verdict="invalid", note=""
    )
    try:
        line = replace(line, email=validate_email(invitee.email), name=validate_name(invitee.name))
        validate_role(roles, invitee.role)
    except InvitationRefusedError as error:
        return replace(line, name=None, note=error.text)
    address = canonicalize_email(line.email)
    if address in seen:
        return _with_verdict(line, "duplicate")
    status = membership_statuses.get(address)
    if status in ("member", "deactivated"):
        return replace(line, verdict="member", note=VERDICT_NOTES[status])
    if address in invited:
        return _with_verdict(line, "invited")
    return _with_verdict(line, "former" if status else "new")


def _with_verdict(line: InviteeDecision, verdict: InviteeVerdict) -> InviteeDecision:
    return replace(line, verdict=verdict, note=VERDICT_NOTES[verdict])


def parse_invitees(text: str, *, role: str = MEMBER_ROLE, roles: RoleCatalog = UNKNOWN_ROLES) -> list[InviteeInput]:
    """Return the people that a text names: CSV if its first line has a column `email`, else addresses in any order.

    `role` is the role of people for whom the text names none; `roles` are the roles of the organization.

    Raises:
        InvitationRefusedError: the text is too long, is not valid CSV, or names nobody.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise InvitationRefusedError(lazy_gettext("This list is too long."), code="too_many", field="text")
    try:
        found = _parse_csv(text, role, roles) if _parse_csv_header(_first_line(text)) else _parse_plain_text(text, role)
    except csv.Error as error:
        raise InvitationRefusedError(
            lazy_gettext("This CSV cannot be read: %(error)s.", error=error), code="invalid_csv", field="text"
        ) from error
    if not found:
        raise InvitationRefusedError(lazy_gettext("There is no address in this list."), code="nobody", field="text")
    if len(found) > MAX_INVITEES:
        message = lazy_gettext(
            "This list has %(count)s addresses, but at most %(max)s can be invited at once.",
            count=len(found),
            max=MAX_INVITEES,
        )
        raise InvitationRefusedError(message, code="too_many", field="text")
    return found


def _first_line(text: str) -> str:
    return next(iter(text.lstrip("\ufeff \t\r\n").splitlines()), "")


def _parse_csv_header(line: str) -> list[str] | None:
    """Return the field of each column (empty if ignored), or None if the line is not a CSV header."""
    cells = next(csv.reader([line], delimiter=_detect_delimiter(line)), [])
    columns = [_CSV_COLUMNS.get(cell.strip().lower(), "") for cell in cells]
    return columns if "email" in columns else None


def _detect_delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _parse_csv(text: str, role: str, roles: RoleCatalog) -> list[InviteeInput]:
    text = text.lstrip("\ufeff \t\r\n")
    header = _first_line(text)
    columns = _parse_csv_header(header) or []
    found = []
    for cells in list(csv.reader(io.StringIO(text), delimiter=_detect_delimiter(header)))[1:]:
        row = {column: cell.strip() for column, cell in zip(columns, cells, strict=False) if column}
        if any(row.values()):
            row_role = roles.find_key(row["role"]) if row.get("role") else role
            found.append(InviteeInput(email=row.get("email", ""), role=row_role, name=row.get("name") or None))
    return found


def _parse_plain_text(text: str, role: str) -> list[InviteeInput]:
    return [InviteeInput(email=email, role=role, name=name) for email, name in _parse_addresses(text)]


def _parse_addresses(text: str) -> list[tuple[str, str | None]]:
    """Return the addresses of a text, each with the name before `<address>` if there is one.

    A name may be quoted, and may contain a comma (`Roe, Richard <richard@x.com>`). Entries end at a comma, a semicolon,
    a tab or a line end. Words that are no address are returned as addresses, so that no input is dropped.
    """
    found: list[tuple[str, str | None]] = []
    name: list[str] = []  # words since the last address: possibly the next one's name
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
    """Return words that are no name as (invalid) addresses, so that they are reported."""
    return [(it, None) for it in words if it != ","]
