"""A model of Clerk, small enough to be right: things with versions, every state they ever had, and what it told."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from instep.clerk import parsing
from instep.domain.errors import ClerkUnavailableError
from instep.domain.events import Absence, LookupResult, Observation
from instep.domain.models import ClerkId, ClerkMembership, EntityKey, EntityKind
from instep.domain.reconcile import NeedsRefetch
from tests.support.deliveries import INSTANCE, body, user_body

ROLES = ("org:member", "org:admin")


@dataclass(frozen=True)
class State:
    """One thing at one time: its version and what it says (a name, a role)."""

    version: int
    says: str


@dataclass
class Thing:
    """Something in Clerk, with all its past."""

    key: EntityKey
    past: list[State]
    user: int = 0
    organization: int = 0
    is_alive: bool = True

    @property
    def now(self) -> State:
        return self.past[-1]

    @property
    def made_at(self) -> int:
        return self.past[0].version


@dataclass
class ModelClerk:
    """Clerk, and the Directory that reads it: present or past, as `is_stale` says, or not at all (`is_down`).

    The past has an older version: an answer from between two changes of one millisecond looks like the present, and
    nobody can tell. While it `is_hiding` it shows nothing at all; `missed` counts these answers for each thing.
    """

    time: int = 1_000
    things: dict[EntityKey, Thing] = field(default_factory=dict)
    told: list[bytes] = field(default_factory=list)
    is_down: bool = False
    is_stale: bool = False
    is_hiding: bool = False
    missed: Counter[EntityKey] = field(default_factory=Counter)

    # What happens

    def make(self, kind: EntityKind, id: str, says: str, *, user: int = 0, organization: int = 0) -> Thing:
        self.time += 1
        thing = Thing(EntityKey(kind, ClerkId(id)), [State(self.time, says)], user, organization)
        self.things[thing.key] = thing
        self._tell(thing, "created")
        return thing

    def change(self, thing: Thing, says: str, *, is_same_moment: bool) -> None:
        """Another name or role; in the same millisecond as the last change, if that is wanted."""
        self.time += 1
        version = thing.now.version if is_same_moment else self.time
        thing.past.append(State(version, says))
        self._tell(thing, "updated")

    def end(self, thing: Thing) -> None:
        """It is deleted; with a person or an organization go the memberships, and Clerk tells of none of these."""
        self._tell(thing, "deleted")
        thing.is_alive = False
        for other in self.alive("membership"):
            if thing in (self.parent(other, "user"), self.parent(other, "organization")):
                other.is_alive = False

    def alive(self, kind: EntityKind) -> list[Thing]:
        return [it for it in self.things.values() if it.key.kind == kind and it.is_alive]

    def parent(self, membership: Thing, kind: EntityKind) -> Thing:
        n = membership.user if kind == "user" else membership.organization
        return self.things[EntityKey(kind, ClerkId(f"{'user' if kind == 'user' else 'org'}_{n}"))]

    # What it tells

    def _tell(self, thing: Thing, what: str) -> None:
        names = {"user": "user", "organization": "organization", "membership": "organizationMembership"}
        type_ = f"{names[thing.key.kind]}.{what}"
        if what == "deleted" and thing.key.kind != "membership":
            self.told.append(body(type_, {"id": thing.key.id, "deleted": True}))
        else:
            self.told.append(self.tell_of(thing, thing.now, type_))

    def tell_of(self, thing: Thing, state: State, type_: str) -> bytes:
        if thing.key.kind == "user":
            said = {"first_name": state.says, "created_at": thing.made_at}
            return user_body(int(thing.key.id.partition("_")[2]), version=state.version, type_=type_, **said)
        if thing.key.kind == "organization":
            return body(type_, _organization(thing, state))
        owner = self.parent(thing, "organization")
        data: dict[str, Any] = {
            "id": thing.key.id,
            "role": state.says,
            "organization": _organization(owner, owner.now),
            "public_user_data": {"user_id": f"user_{thing.user}"},
            "created_at": thing.made_at,
            "updated_at": state.version,
        }
        return body(type_, data)

    # Directory

    async def find_instance(self) -> str | None:
        if self.is_down:
            raise ClerkUnavailableError("Clerk did not answer.")
        return INSTANCE

    async def fetch(self, asks: Sequence[NeedsRefetch]) -> list[LookupResult]:
        if self.is_down:
            raise ClerkUnavailableError("Clerk did not answer.")
        return [self._look(ask) for ask in asks]

    def _look(self, ask: NeedsRefetch) -> LookupResult:
        thing = self.things[ask.key]
        if self.is_hiding:
            self.missed[ask.key] += 1
            return Absence(ask.key, ask.entity)
        if self.is_stale:
            older = [it for it in thing.past if it.version < thing.now.version]
            return self._seen(thing, older[0] if older else thing.now)
        if not thing.is_alive:
            return Absence(ask.key, ask.entity)
        return self._seen(thing, thing.now)

    def _seen(self, thing: Thing, state: State) -> Observation:
        names = {"user": "user", "organization": "organization", "membership": "organizationMembership"}
        said = parsing.parse_webhook(self.tell_of(thing, state, f"{names[thing.key.kind]}.updated"))[-1]
        assert isinstance(said, Observation)
        assert not isinstance(said.entity, ClerkMembership) or said.entity.user == f"user_{thing.user}"
        return said


def _organization(thing: Thing, state: State) -> dict[str, Any]:
    return {"id": thing.key.id, "name": state.says, "created_at": thing.made_at, "updated_at": state.version}
