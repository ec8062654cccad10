"""Audit entries, and building them from changes in Clerk."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from instep.domain.reconcile import Change
from instep.mirror.unit_of_work import LocalMembership, UnitOfWork


class NewAuditEntry(Struct, frozen=True, kw_only=True):
    """An entry to append.

    `actor`: a person's id, `clerk`, `break_glass` or `system`. `action`: such as `member.role`. `target`: such as
    `user:usr_...`, or Clerk's id. `outcome`: `asked`, `done`, `refused`, ... `cause`: the operation or delivery that
    led to it. `origin`: the address that the request came from. `impersonator`: the person who acted as the actor.
    `details`: the values before and after.
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


class AuditEntryRow(Struct, frozen=True, kw_only=True):
    """A stored entry. `at` is in Unix ms; ids sort by time."""

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


def build_joined_entries(memberships: Iterable[LocalMembership]) -> list[NewAuditEntry]:
    """Return the entries of new members of local organizations, who signed up through an invitation."""
    return [
        NewAuditEntry(
            actor="system",
            action="membership.joined",
            target=membership.membership_id,
            organization_id=membership.organization_id,
            details={"user": membership.user_id, "role": membership.role},
        )
        for membership in memberships
    ]


def build_change_entry(
    change: Change, unit: UnitOfWork, *, actor: str, cause: str, action: str | None = None
) -> NewAuditEntry:
    """Return the entry of a change in Clerk, after the unit of work is applied; `action` None: derived from it."""
    key = change.state.key
    derived = (
        "gone" if change.is_deletion else "seen" if change.known is None else "back" if change.is_revival else "changed"
    )
    organization_id, details = unit.describe_change(change)
    return NewAuditEntry(
        actor=actor,
        action=f"{key.kind}.{action or derived}",
        target=key.id,
        organization_id=organization_id,
        cause=cause,
        details=details,
    )


def build_superseded_entries(unit: UnitOfWork) -> list[NewAuditEntry]:
    """Return the entries of memberships that a newer one replaced."""
    return [build_change_entry(each, unit, actor="system", cause="superseded") for each in unit.superseded]
