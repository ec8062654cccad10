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
"""Content fields that Clerk's specification does not require.

Clerk leaves them out if they are false, as on an instance without directories.
"""

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


class VerifiedDelivery(Struct, frozen=True, kw_only=True):
    """A verified webhook message.

    `id` is the svix-id, the same in every retry; `body` the signed bytes. `user` and `organization` are Clerk's ids of
    the entities it is about, if it names them.
    """

    id: str
    type: str
    instance_id: str | None
    body: bytes
    received_at: int
    user: str | None = None
    organization: str | None = None


class Observation(Struct, frozen=True, gc=False, omit_defaults=True):
    """A state of an entity at `version` (Clerk's `updated_at`, Unix milliseconds).

    `absent` names content fields that Clerk did not send: they are unknown, not empty. `is_embedded`: the entity was
    part of another one, so it decides nothing about fields that it leaves out.
    """

    key: EntityKey
    version: int
    entity: Entity
    digest: str
    absent: frozenset[str] = frozenset()
    is_embedded: bool = False


class Tombstone(Struct, frozen=True):
    """A deletion of an entity in Clerk. It has no version: it wins at any time.

    `entity` is its last state, if Clerk sent it (it does for memberships). `absent_at` (Unix milliseconds): Clerk did
    not report the deletion, but the entity has not been found since then; a later read that finds it reverts this.
    """

    key: EntityKey
    entity: Entity | None = None
    absent_at: int | None = None


class Absence(Struct, frozen=True):
    """An entity that a read did not find.

    Not yet a deletion because Clerk's lists may lag behind. `entity` as in Tombstone.
    """

    key: EntityKey
    entity: Entity | None = None


class UnreadableEntity(Struct, frozen=True):
    """An entity that Clerk returned in a form that cannot be parsed; a retry gives the same.

    Neither a state nor an absence. `reason` is a sentence for operators.
    """

    key: EntityKey
    reason: str


class OrganizationInvitationsChanged(Struct, frozen=True):
    """A change of an organization that is not mirrored (its invitations): open pages reload."""

    organization: ClerkId


class UserRestrictions(Struct, frozen=True):
    """Restrictions of a user that a membership reports. None: not reported. Has no version."""

    key: EntityKey
    is_banned: bool | None = None
    is_deprovisioned: bool | None = None


class RoleChanged(Struct, frozen=True):
    """A role of the instance was created or changed. `role` None: no details, so the roles must be fetched."""

    role: ClerkRole | None = None


class RoleDeleted(Struct, frozen=True):
    """A role of the instance was deleted."""

    id: str


class SessionEnded(Struct, frozen=True):
    """A Clerk session ended: sessions of ours that depend on it end too."""

    session: ClerkId


class IrrelevantEvent(Struct, frozen=True):
    """An event about nothing that is mirrored; it is counted, acknowledged and ignored."""

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
    """Build an observation of an entity at `version`; the `absent` fields are unknown."""
    return Observation(
        EntityKey(_KIND_BY_TYPE[type(entity)], entity.clerk_id), version, entity, compute_digest(entity), absent
    )


def compute_digest(entity: Entity) -> str:
    """Return a short hash of the content that is compared; equal digests mean equal content."""
    content = entity.digest_content() if isinstance(entity, ClerkUser) else entity.content()
    if isinstance(content[-1], msgspec.Raw):  # metadata is last, and compared by value, not by how it is written
        content = (*content[:-1], _decode(content[-1]))
    return hashlib.blake2b(_encode(content), digest_size=12).hexdigest()


def encode_entity_state(state: EntityState) -> dict[str, Any]:
    """Encode an entity state as plain JSON, to be stored with an operation."""
    encoded: dict[str, Any] = msgspec.json.decode(_encode(state))
    return encoded


def decode_entity_state(encoded: dict[str, Any]) -> EntityState:
    """Decode the result of `encode_entity_state`."""
    key = msgspec.convert(encoded["key"], EntityKey)
    raw = encoded.get("entity")
    entity = msgspec.json.decode(_encode(raw), type=_TYPE_BY_KIND[key.kind]) if raw else None
    if "version" in encoded and entity is not None:
        return Observation(key, encoded["version"], entity, encoded["digest"])
    return Tombstone(key, entity, encoded.get("absent_at"))
