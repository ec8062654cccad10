"""The desk that every flow of the slice starts at: who is asked about, what the asker may do, and carrying it out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from instep.access.principal import Person, Principal, is_instance_admin
from instep.identity.model import ClerkId
from instep.identity.ports import ProviderRefused
from instep.identity.refusals import CONFLICT, Refused
from instep.journal.model import Asked, Failed, Opening, Operation, Unknowable
from instep.journal.run import Runner
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db
from instep.kit.errors import TemporaryError
from instep.mirror.people import PersonRow, find_person, organizations_of
from instep.profiles import store
from instep.profiles.profile import Profile
from instep.profiles.rules import Rights, not_found, not_synced, require_key_may, rights_of

LONGEST_REF = 200


class ChangedMeanwhile(TemporaryError):
    """The person is not as they were when the change was asked for."""


class Subject(Struct, frozen=True, kw_only=True):
    """A person, and what the asker may do with them."""

    person: PersonRow
    rights: Rights


@dataclass(frozen=True)
class Desk:
    """What the flows share. `admins`: Clerk ids and addresses (lower case) of instance admins, from the settings.

    `told` hears in which organizations somebody changed.
    """

    db: Db
    runner: Runner
    admins: frozenset[str]
    told: Callable[[set[str]], None]
    clock: Clock

    async def find(self, principal: Principal, ref: str) -> Subject:
        """A person by instep's id or Clerk's. Raises Refused (404) for nobody, and for one they may not know of."""
        if not ref.isprintable() or len(ref) > LONGEST_REF:
            raise not_found()
        return await self.db.read(self._find, principal, ref)

    async def profile(self, principal: Principal, ref: str) -> Profile:
        """A person as the asker may see them: an organization's people see what is theirs, and nothing of others."""
        subject = await self.find(principal, ref)
        person, rights = subject.person, subject.rights
        found = (await self.db.read(store.list_belongings, [person.id])).get(person.id, [])
        is_known = rights.is_admin or rights.is_self
        belongings = [it for it in found if is_known or it.organization_id in rights.shared]
        return Profile(person=person, belongings=tuple(belongings), is_whole=rights.is_admin)

    def require_key_may(self, principal: Principal, fields: Mapping[str, Any], person: PersonRow | None) -> None:
        """Check what an API key may change of somebody, None for a new person. Raises Refused; see `rules`."""
        is_above_all = person is not None and self._is_admin(person)
        require_key_may(principal, fields, is_above_all=is_above_all, admins=self.admins)

    async def carry_out(self, asked: Asked, opening: Opening, *, whom: str) -> Operation:
        """Run an operation; what Clerk refused is said in words. Raises Refused, Unsettled, Busy."""
        try:
            operation = await self.runner.run(asked, opening=opening)
        except Failed as failed:
            raise self.say(failed, asked, whom) from failed
        self.told(await self.db.read(organizations_of, [asked.intent["user"]]))
        return operation

    def say(self, failed: Failed, asked: Asked, whom: str) -> Refused:
        """An operation that did not end as it was asked, in words."""
        refusal = refusal_of(failed)
        if refusal is None or failed.operation.state == "attention":
            return Refused(str(failed), code=failed.code, status=CONFLICT, refusal=refusal)
        return not_synced(refusal, asked.intent, whom=whom)

    def _find(self, conn: Conn, principal: Principal, ref: str) -> Subject:
        person = find_person(conn, ref)
        if person is None:
            raise not_found()
        ties = store.list_ties(conn, principal, person.id)
        rights = rights_of(principal, person.id, ties, is_above_all=self._is_admin(person))
        if not rights.may_see:
            raise not_found()
        return Subject(person=person, rights=rights)

    def _is_admin(self, person: PersonRow) -> bool:
        known = {name: getattr(person, name) for name in Person.__struct_fields__}
        return is_instance_admin(Person(**known), person.clerk_id or "", self.admins)


def refusal_of(failed: Failed) -> ProviderRefused | None:
    """Clerk's own refusal behind a failure; of a repetition, what is kept of it. None where it was none."""
    cause = failed.__cause__
    if isinstance(cause, Unknowable):
        return None
    return cause if isinstance(cause, ProviderRefused) else ProviderRefused(str(failed), code=failed.code, status=0)


def require_same(person: PersonRow, clerk_id: str | None) -> PersonRow:
    """Raises ChangedMeanwhile where the person got another Clerk account, or their first, since the flow looked."""
    if person.clerk_id != clerk_id:
        raise ChangedMeanwhile("This person was changed a moment ago. Nothing was changed by you; try again.")
    return person


def target_of(person: PersonRow) -> str:
    """What operations on a person lock."""
    return f"user:{person.id}"


def key_of(kind: str, idempotency_key: str | None) -> str | None:
    """One key may come with different changes: each kind has its own."""
    return f"{kind}:{idempotency_key}" if idempotency_key else None


def clerk_id_of(person: PersonRow) -> ClerkId | None:
    """Clerk's id of somebody whom Clerk still has."""
    return ClerkId(person.clerk_id) if person.clerk_id and person.gone_at is None else None


def asked_of(kind: str, principal: Principal, person: PersonRow, key: str | None, intent: dict[str, Any]) -> Asked:
    """An operation on a person."""
    return Asked(
        kind=kind,
        target=target_of(person),
        actor=principal.id,
        idempotency_key=key_of(kind, key),
        intent={"user": person.id, "clerk_id": clerk_id_of(person), **intent},
    )
