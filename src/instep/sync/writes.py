"""Writing to the provider what belongs to the database, where the policy says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from instep.identity.events import Found, Seen
from instep.identity.model import Membership, ProfileChange
from instep.identity.ports import Accounts, Actor, Directory
from instep.identity.rules import AskAgain
from instep.kit.errors import PermanentError
from instep.sync.plan import Finding

PROFILE = ("first_name", "last_name", "username", "external_id")


class Provider(Directory, Actor, Accounts, Protocol):
    """All that a provider can do."""


@dataclass(frozen=True)
class Writing:
    """Single things: read, and written. Writing the same twice changes nothing more."""

    provider: Provider

    async def look(self, asks: Sequence[AskAgain]) -> list[Found]:
        """See identity.ports.Directory.look."""
        return await self.provider.look(asks)

    async def write(self, finding: Finding) -> Seen:
        """Write the fields that belong to the database; gives the thing as Clerk has it then.

        Raises ProviderRefused and ProviderDown: the row is then skipped, and found again by the next check.
        """
        news = finding.news
        ours = {it.field: it.here for it in finding.differences if it.owner == "database"}
        if news is None or not ours:
            raise PermanentError("There is nothing to write.", code="nothing_to_write")
        if isinstance(news.entity, Membership):
            return await self.provider.set_role(news.entity.organization, news.entity.user, ours["role"])
        changed: Seen | None = None
        profile = {name: ours[name] or "" for name in PROFILE if name in ours}
        if profile:
            changed = await self.provider.update_user(news.key.id, ProfileChange(**profile))
        if "public_metadata" in ours:
            changed = await self.provider.set_metadata(news.key.id, _replacing(finding, ours["public_metadata"]))
        if changed is None:
            raise PermanentError("These fields can't be written to Clerk.", code="not_writable")
        return changed


def _replacing(finding: Finding, wanted: dict[str, object]) -> dict[str, object]:
    """What to merge so that the metadata become `wanted`: keys that only Clerk has are taken away."""
    there = next(it.clerk for it in finding.differences if it.field == "public_metadata")
    return {**dict.fromkeys(there or {}), **wanted}
