"""Pending losses and gains of admins, for the last-admin guard."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

ADMIN_LOSS_KEY, USER_REMOVAL_KEY, ADMIN_GAIN_KEY = "leaves_admin", "leaves_everywhere", "rises_to_admin"


class PendingAdminChanges(Struct, frozen=True, kw_only=True):
    """What the open operations will take and give: our ids of memberships, and of people."""

    leaving: frozenset[str] = frozenset()
    removed_user_ids: frozenset[str] = frozenset()
    promoted_membership_ids: frozenset[str] = frozenset()

    def is_being_removed(self, membership: str, person: str) -> bool:
        """Whether this admin counts no longer."""
        return membership in self.leaving or person in self.removed_user_ids


NO_PENDING_CHANGES = PendingAdminChanges()


def collect_pending_changes(intents: Iterable[Mapping[str, Any]]) -> PendingAdminChanges:
    """What the intents of all open operations say."""
    listed = list(intents)

    def named(key: str) -> frozenset[str]:
        return frozenset(intent[key] for intent in listed if isinstance(intent.get(key), str))

    return PendingAdminChanges(
        leaving=named(ADMIN_LOSS_KEY),
        removed_user_ids=named(USER_REMOVAL_KEY),
        promoted_membership_ids=named(ADMIN_GAIN_KEY),
    )
