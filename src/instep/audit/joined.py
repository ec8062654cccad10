"""What the audit says of changes in Clerk and of what followed from them, whichever way the news came in."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from instep.audit.store import Entry
from instep.identity.rules import Change


class Membership(Protocol):
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


def joined_entries(joined: Iterable[Membership]) -> list[Entry]:
    """Of those who were made members of a local organization because they were invited to it."""
    return [
        Entry(
            actor="system",
            action="membership.joined",
            target=it.membership_id,
            organization_id=it.organization_id,
            details={"user": it.user_id, "role": it.role},
        )
        for it in joined
    ]


class Ledger(Protocol):
    """What one transaction changed in the mirror."""

    @property
    def superseded(self) -> Sequence[Change]:
        """Memberships that ended because a newer one of the same person in the same organization is there."""

    def about(self, change: Change) -> tuple[str | None, dict[str, Any]]:
        """Our id of the organization that a change belongs to, and how the thing was and is."""


def change_entry(change: Change, ledger: Ledger, *, actor: str, cause: str, action: str | None = None) -> Entry:
    """Return the entry of something that changed in Clerk, once the ledger is written; `action` None: by the change."""
    news = change.news
    what = "gone" if change.is_gone else "seen" if change.known is None else "back" if change.is_back else "changed"
    organization_id, details = ledger.about(change)
    return Entry(
        actor=actor,
        action=f"{news.key.kind}.{action or what}",
        target=news.key.id,
        organization_id=organization_id,
        cause=cause,
        details=details,
    )


def superseded_entries(ledger: Ledger) -> list[Entry]:
    """Return the entries of memberships that a newer one ended."""
    return [change_entry(it, ledger, actor="system", cause="superseded") for it in ledger.superseded]
