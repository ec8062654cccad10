"""Pending losses and gains of admins, for the last-admin guard."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

ADMIN_LOSS_KEY, USER_REMOVAL_KEY, ADMIN_GAIN_KEY = "leaves_admin", "leaves_everywhere", "rises_to_admin"


class PendingAdminChanges(Struct, frozen=True, kw_only=True):
    """Losses and gains of admins that pending operations will cause.

    Identifiers are those of the mirror.
    """

    demoted_membership_ids: frozenset[str] = frozenset()
    removed_user_ids: frozenset[str] = frozenset()
    promoted_membership_ids: frozenset[str] = frozenset()

    def is_losing_admin(self, membership_id: str, user_id: str) -> bool:
        """Return whether this membership will no longer count as an admin."""
        return membership_id in self.demoted_membership_ids or user_id in self.removed_user_ids


NO_PENDING_CHANGES = PendingAdminChanges()


def collect_pending_changes(intents: Iterable[Mapping[str, Any]]) -> PendingAdminChanges:
    """Collect the losses and gains from the intents of all pending operations."""
    collected = list(intents)

    def collect(key: str) -> frozenset[str]:
        return frozenset(intent[key] for intent in collected if isinstance(intent.get(key), str))

    return PendingAdminChanges(
        demoted_membership_ids=collect(ADMIN_LOSS_KEY),
        removed_user_ids=collect(USER_REMOVAL_KEY),
        promoted_membership_ids=collect(ADMIN_GAIN_KEY),
    )
