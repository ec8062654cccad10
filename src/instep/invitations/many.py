"""Inviting many at once: first what would happen, then a batch that goes on by itself until every row has its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
from msgspec import Struct

from instep.access.principal import Access
from instep.identity.addresses import canonical
from instep.identity.model import ClerkId
from instep.identity.ports import Directory, ProviderRefused
from instep.identity.refusals import NOT_FOUND
from instep.invitations import limits, store
from instep.invitations.batch import BATCH, Batch, batch_of, parts_of
from instep.invitations.flows import list_sent
from instep.invitations.preview import Line, Wish, decide
from instep.invitations.rules import (
    EXPIRES_IN_DAYS,
    LONGEST_EMAIL,
    InviteRefused,
    checked_days,
    in_words,
    inviter_of,
    organization_of,
)
from instep.journal.model import Asked, Operation
from instep.journal.run import Runner
from instep.journal.store import find
from instep.kit.clock import Clock
from instep.kit.clock import now as system_now
from instep.kit.db import Conn, Db
from instep.kit.errors import InstepError
from instep.kit.ids import new_id
from instep.mirror.store import find_organization, member_totals

log = structlog.get_logger(__name__)


class Preview(Struct, frozen=True, kw_only=True):
    """What a list would do: a line for each, how many would be sent, the seats, and why it can't be sent now."""

    lines: tuple[Line, ...]
    sent: int
    seats: int | None
    seats_used: int
    refusal: str | None


@dataclass(frozen=True)
class InviteMany:
    """Invites a list of people to an organization. `redirect_url` is where an accepted invitation leads."""

    db: Db
    runner: Runner
    directory: Directory
    redirect_url: str | None
    clock: Clock = field(default=system_now)

    async def preview(self, access: Access, wishes: Sequence[Wish]) -> Preview:
        """What would become of each; nothing is sent.

        1 the right is checked; 2 Clerk's pending invitations and the members are read; 3 each is decided.
        Raises InviteRefused and, where Clerk does not answer, ProviderDown.
        """
        organization = organization_of(access)
        try:
            pending = await self.directory.list_invitations(organization, statuses=("pending",))
        except ProviderRefused as refusal:
            raise in_words(refusal, email="", role="") from refusal
        holders = await self._holders([wish.email for wish in wishes])
        return await self.db.read(self._decide, access, wishes, {canonical(it.email) for it in pending}, holders)

    async def send(
        self,
        access: Access,
        wishes: Sequence[Wish],
        *,
        expires_in_days: int = EXPIRES_IN_DAYS,
        notify: bool = True,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Invite everyone who can be invited; the others are in the batch too, with why they were skipped.

        1 as `preview`; 2 the batch is kept, unless it would be too many for today; 3 in the same transaction with its
        end its parts are queued, ten to a bulk call, and the worker sends them when Clerk takes them.
        Raises InviteRefused (nothing was changed).
        """
        organization = organization_of(access)
        preview = await self.preview(access, wishes)
        asked = Asked(
            kind=BATCH,
            target=f"batch:{idempotency_key or new_id('bat')}",
            actor=access.principal.id,
            organization_id=access.organization_id,
            idempotency_key=idempotency_key,
            intent={
                "organization": organization,
                "rows": [_row(number, line) for number, line in enumerate(preview.lines)],
                "expires_in_days": checked_days(expires_in_days),
                "notify": notify,
                "inviter": inviter_of(access),
                "redirect_url": self.redirect_url,
            },
        )
        operation = await self.runner.run(asked, opening=partial(self._check, access=access, lines=preview.lines))
        return await self.db.read(_read, operation)

    async def find(self, id: str) -> Batch | None:
        """How a batch stands; whoever asks must be asked for their access to its organization."""
        operation = await self.db.read(find, id)
        if operation is None or operation.kind != BATCH:
            return None
        return await self.db.read(_read, operation)

    async def get(self, access: Access, id: str) -> Batch:
        """How a batch of this organization stands. Raises InviteRefused with 404 for any other."""
        organization_of(access, doing="see this")
        found = await self.find(id)
        if found is None or found.organization_id != access.organization_id:
            raise InviteRefused("There is no such batch.", code="batch_not_found", status=NOT_FOUND)
        return found

    async def _holders(self, emails: Sequence[str]) -> dict[str, ClerkId]:
        """Return whose addresses these are in Clerk: one of a member's may be another than the one we know."""
        valid = [email for email in emails if "@" in email and len(email) <= LONGEST_EMAIL and email.isprintable()]
        try:
            return await self.directory.find_holders(valid) if valid else {}
        except InstepError as error:
            log.warning("holders_unknown", error=str(error))
            return {}

    def _decide(
        self,
        conn: Conn,
        access: Access,
        wishes: Sequence[Wish],
        invited: set[str],
        holders: Mapping[str, ClerkId],
    ) -> Preview:
        emails = {canonical(wish.email.strip()) for wish in wishes}
        standing = {it.email: it.status for it in store.list_standing(conn, access.organization_id, emails, holders)}
        organization = find_organization(conn, access.organization_id)
        seats = organization.max_members if organization else None
        totals = member_totals(conn, access.organization_id)
        used = sum(count for (status, _), count in totals.items() if status != "removed") + len(invited)
        free = None if seats is None else max(0, seats - used)
        lines = tuple(decide(wishes, standing=standing, invited=invited, free=free, roles=access.roles))
        sent = sum(line.is_sent for line in lines)
        return Preview(lines=lines, sent=sent, seats=seats, seats_used=used, refusal=self._refusal(conn, access, lines))

    def _refusal(self, conn: Conn, access: Access, lines: Sequence[Line]) -> str | None:
        try:
            self._check(conn, access=access, lines=lines)
        except InviteRefused as refused:
            return str(refused)
        return None

    def _check(self, conn: Conn, *, access: Access, lines: Sequence[Line]) -> None:
        now = self.clock()
        wanted = [line.email for line in lines if line.is_sent]
        limits.check(list_sent(conn, access, now=now), actor=access.principal.id, emails=wanted, now=now)


def _read(conn: Conn, operation: Operation) -> Batch:
    count = len(parts_of(operation.intent["rows"]))
    return batch_of(operation, store.find_parts(conn, operation, count=count))


def _row(number: int, line: Line) -> dict[str, Any]:
    row: dict[str, Any] = {"n": number, "email": line.email, "role": line.role}
    if line.name:
        row["name"] = line.name
    return row if line.is_sent else row | {"code": line.verdict, "reason": line.note}
