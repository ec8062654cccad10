"""What the audit says of memberships that followed from other news, whichever way these came in."""

from collections.abc import Iterable
from typing import Protocol

from instep.audit.store import Entry


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
