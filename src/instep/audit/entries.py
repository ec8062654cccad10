"""Audit entries, and building them from changes in Clerk."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from instep.domain.reconcile import Change


class JoinedMembership(Protocol):
    """A membership of a local organization that was just made."""

    @property
    def membership_id(self) -> str:
        """Our id of it."""

    @property
    def organization_id(self) -> str:
        """Our id of the organization."""

    @property
    def user_id(self) -> str:
        """Our id of the person."""

    @property
    def role(self) -> str:
        """The role there."""


class NewAuditEntry(Struct, frozen=True, kw_only=True):
    """One thing that happened.

    `actor`: who (a person's id, `clerk`, `break_glass`, `system`); `action`: what (`member.role`); `target`: to whom or
    what (`user:usr_...`, or Clerk's id); `outcome`: how it stands (`asked`, `done`, `refused`, ...); `cause`: the
    operation or the delivery behind it; `origin`: the address that a request came from; `impersonator`: who acted as
    the actor, where somebody did; `details`: before and after.
    """

    actor: str
    action: str
    target: str
    outcome: str = "done"
    organization_id: str | None = None
    cause: str | None = None
    request_id: str | None = None
    origin: str | None = None
    impersonator: str | None = None
    details: Mapping[str, Any] = {}


def build_joined_entries(joined: Iterable[JoinedMembership]) -> list[NewAuditEntry]:
    """Of those who were made members of a local organization because they were invited to it."""
    return [
        NewAuditEntry(
            actor="system",
            action="membership.joined",
            target=it.membership_id,
            organization_id=it.organization_id,
            details={"user": it.user_id, "role": it.role},
        )
        for it in joined
    ]


class AuditedUnitOfWork(Protocol):
    """What one transaction changed in the mirror."""

    @property
    def superseded(self) -> Sequence[Change]:
        """Memberships that ended because a newer one of the same person in the same organization is there."""

    def describe_change(self, change: Change) -> tuple[str | None, dict[str, Any]]:
        """Our id of the organization that a change belongs to, and how the thing was and is."""


def build_change_entry(
    change: Change, ledger: AuditedUnitOfWork, *, actor: str, cause: str, action: str | None = None
) -> NewAuditEntry:
    """Return the entry of something that changed in Clerk, once the ledger is written; `action` None: by the change."""
    news = change.state
    what = (
        "gone" if change.is_deletion else "seen" if change.known is None else "back" if change.is_revival else "changed"
    )
    organization_id, details = ledger.describe_change(change)
    return NewAuditEntry(
        actor=actor,
        action=f"{news.key.kind}.{action or what}",
        target=news.key.id,
        organization_id=organization_id,
        cause=cause,
        details=details,
    )


def build_superseded_entries(ledger: AuditedUnitOfWork) -> list[NewAuditEntry]:
    """Return the entries of memberships that a newer one ended."""
    return [build_change_entry(it, ledger, actor="system", cause="superseded") for it in ledger.superseded]


class AuditEntryRow(Struct, frozen=True, kw_only=True):
    """An entry as it is kept. `at` is in Unix milliseconds; ids sort by time."""

    id: str
    at: int
    actor: str
    action: str
    target: str
    outcome: str
    organization_id: str | None
    cause: str | None
    request_id: str | None
    origin: str | None
    impersonator: str | None
    details: dict[str, Any]
