"""Observations, tombstones and other events received from Clerk."""

import hashlib
from typing import Any

import msgspec
from msgspec import Struct

from instep.domain.models import ClerkId, ClerkMembership, ClerkOrganization, ClerkUser, Entity, EntityKey
from instep.domain.roles import ClerkRole

_KIND_BY_TYPE: dict[type, Any] = {ClerkUser: "user", ClerkOrganization: "organization", ClerkMembership: "membership"}
_TYPE_BY_KIND: dict[str, Any] = {kind: type_ for type_, kind in _KIND_BY_TYPE.items()}
OPTIONAL_FIELDS = frozenset({"is_deprovisioned"})


"""Fields of the content that Clerk's specification does not require: a reading leaves them out where they are false,
as on an instance without directories."""


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


class VerifiedDelivery(Struct, frozen=True, kw_only=True):
    """A verified webhook message. `id` is the svix-id, equal in every retry; `body` the signed bytes.

    `user` and `organization` are whom and what it is about, where it says so.
    """

    id: str
    type: str
    instance_id: str | None
    body: bytes
    received_at: int
    user: str | None = None
    organization: str | None = None


class Observation(Struct, frozen=True, gc=False, omit_defaults=True):
    """Clerk had this thing in this state at `version` (its own `updated_at`, Unix milliseconds).

    `absent` names the fields of the content that Clerk did not send: these are unknown, not empty. `is_embedded`: the
    thing came within another one, so that it decides nothing that it does not say whole.
    """

    key: EntityKey
    version: int
    entity: Entity
    digest: str
    absent: frozenset[str] = frozenset()
    is_embedded: bool = False


class Tombstone(Struct, frozen=True):
    """Clerk no longer has this thing. Carries no version: it wins whatever its time.

    `entity` is its last state where the news tells it (Clerk does for memberships). `absent_at`: Clerk did not say
    so; since then (Unix milliseconds) it was looked for in vain, and a later reading that finds it takes that back.
    """

    key: EntityKey
    entity: Entity | None = None
    absent_at: int | None = None


class Absence(Struct, frozen=True):
    """A reading did not find this thing: no news yet, since Clerk's lists may lag behind. `entity` as in Gone."""

    key: EntityKey
    entity: Entity | None = None


class UnreadableEntity(Struct, frozen=True):
    """Clerk answered for this thing with what can't be read: neither news nor an absence, and the same the next time.

    `reason` is a sentence for whoever has to look.
    """

    key: EntityKey
    reason: str


class OrganizationInvitationsChanged(Struct, frozen=True):
    """Something we do not mirror changed in this organization (its invitations): open pages look again."""

    organization: ClerkId


class UserRestrictions(Struct, frozen=True):
    """What a membership says of its person: whether Clerk bars them. None: not said. Carries no version."""

    key: EntityKey
    is_banned: bool | None = None
    is_deprovisioned: bool | None = None


class RoleChanged(Struct, frozen=True):
    """A role of the instance was made or changed. `role` None: it is not said how, and the roles must be read."""

    role: ClerkRole | None = None


class RoleDeleted(Struct, frozen=True):
    """A role of the instance was deleted."""

    id: str


class SessionEnded(Struct, frozen=True):
    """A Clerk session is over: our sessions that hang on it end too."""

    session: ClerkId


class IrrelevantEvent(Struct, frozen=True):
    """An event that says nothing we keep; counted, answered, and left."""

    type: str


EntityState = Observation | Tombstone
LookupResult = Observation | Absence | UnreadableEntity
WebhookEvent = (
    Observation
    | Tombstone
    | UserRestrictions
    | RoleChanged
    | RoleDeleted
    | OrganizationInvitationsChanged
    | SessionEnded
    | IrrelevantEvent
)


def make_observation(entity: Entity, version: int, absent: frozenset[str] = frozenset()) -> Observation:
    """The news that `entity` was in this state at `version`, but for the `absent` fields."""
    return Observation(
        EntityKey(_KIND_BY_TYPE[type(entity)], entity.clerk_id), version, entity, compute_digest(entity), absent
    )


def compute_digest(entity: Entity) -> str:
    """A short hash of what must be equal on both sides; equal digests mean equal content."""
    content = entity.digest_content() if isinstance(entity, ClerkUser) else entity.content()
    if isinstance(content[-1], msgspec.Raw):  # metadata stand last, and count as what they say, not as they are written
        content = (*content[:-1], _decode(content[-1]))
    return hashlib.blake2b(_encode(content), digest_size=12).hexdigest()


def encode_entity_state(news: EntityState) -> dict[str, Any]:
    """News as plain JSON, to be kept with an operation."""
    kept: dict[str, Any] = msgspec.json.decode(_encode(news))
    return kept


def decode_entity_state(kept: dict[str, Any]) -> EntityState:
    """The news that `to_json` kept."""
    key = msgspec.convert(kept["key"], EntityKey)
    raw = kept.get("entity")
    entity = msgspec.json.decode(_encode(raw), type=_TYPE_BY_KIND[key.kind]) if raw else None
    if "version" in kept and entity is not None:
        return Observation(key, kept["version"], entity, kept["digest"])
    return Tombstone(key, entity, kept.get("absent_at"))
