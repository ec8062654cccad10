"""Clerk's JSON and our words. Pure and lenient: an unknown field or enum value never fails a page.

Field names and shapes are those of Clerk's Backend API and webhook specifications; times are Unix milliseconds.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import replace

from instep.clerk import bounds
from instep.clerk.bounds import LONGEST_EMAIL, LONGEST_ID, LONGEST_NAME, LONGEST_ROLE, LONGEST_URL, MOST_VERSION
from instep.identity.events import (
    BarSeen,
    Gone,
    NotForUs,
    RoleChanged,
    RoleGone,
    Said,
    Seen,
    SessionEnded,
    Touched,
    seen,
)
from instep.identity.model import (
    NO_METADATA,
    ClerkId,
    EmailAddress,
    Entity,
    Invitation,
    Key,
    Kind,
    Membership,
    Organization,
    User,
)
from instep.identity.roles import RoleSeen
from instep.kit.bounds import DEEP, MOST_LEVELS, is_deep
from instep.kit.clock import LATEST, is_time
from instep.kit.errors import PermanentError

S = TypeVar("S", bound=Struct)
T = TypeVar("T")
Version = Annotated[int, Meta(ge=0, le=MOST_VERSION)]
At = Annotated[int, Meta(ge=0, lt=LATEST)]
Id = Annotated[str, Meta(min_length=1, max_length=LONGEST_ID)]
RoleKey = Annotated[str, Meta(max_length=LONGEST_ROLE)]
Email = Annotated[str, Meta(max_length=LONGEST_EMAIL)]
Word = Annotated[str, Meta(max_length=200, pattern="^[ -~]*$")]
Flag = bool | UnsetType | None
Text = str | UnsetType | None
NOT_SENT = Raw(b"")


"""Stands for metadata that Clerk did not send."""


MOST_MEMBERS = 2**31 - 1


class Unreadable(PermanentError):
    """What came is not what Clerk's specification says: kept for a person to look at."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="unreadable")


class _Verification(Struct, gc=False):
    status: str | None = None


class EmailWire(Struct, gc=False):
    """An address as the Backend API gives it."""

    id: str
    email_address: Email
    verification: _Verification | None = None


class UserWire(Struct, gc=False):
    """A user as the Backend API and `user.*` events give it. UNSET: not sent, which is not the same as empty."""

    id: Id
    updated_at: Version = 0
    created_at: At | None = 0
    primary_email_address_id: Text = UNSET
    email_addresses: list[EmailWire] | UnsetType | None = UNSET
    first_name: Text = UNSET
    last_name: Text = UNSET
    username: Text = UNSET
    image_url: str | None = None
    external_id: Text = UNSET
    banned: Flag = UNSET
    deprovisioned: Flag = UNSET
    public_metadata: Raw = NOT_SENT
    last_sign_in_at: At | None = None
    last_active_at: At | None = None


class OrganizationWire(Struct, gc=False):
    """An organization as the Backend API, `organization.*` events and memberships give it."""

    id: Id
    name: str | UnsetType = UNSET
    updated_at: Version = 0
    created_at: At | None = 0
    slug: Text = UNSET
    image_url: str | None = None
    max_allowed_memberships: int | UnsetType | None = UNSET
    public_metadata: Raw = NOT_SENT


class _PublicUserData(Struct, gc=False):
    user_id: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    identifier: str | None = None
    banned: bool | None = None
    deprovisioned: bool | None = None


class MembershipWire(Struct, gc=False):
    """A membership as the Backend API and `organizationMembership.*` events give it."""

    id: Id
    role: RoleKey
    organization: OrganizationWire
    public_user_data: _PublicUserData
    updated_at: Version = 0
    created_at: At | None = 0


class InvitationWire(Struct):
    """An organization invitation. Its `url` is a secret and is not read here."""

    id: Id
    email_address: Email
    role: RoleKey
    status: str
    organization_id: str = ""
    created_at: At | None = 0
    updated_at: Version | None = 0
    expires_at: At | None = None
    inviter_id: str | None = None
    public_inviter_data: _PublicUserData | None = None
    public_metadata: dict[str, Any] | None = None
    private_metadata: dict[str, Any] | None = None
    user_id: str | None = None


class _Deleted(Struct):
    id: Id


class _OfOrganization(Struct):
    organization_id: str


class _Permission(Struct):
    key: str


class RoleWire(Struct):
    """A role as the Backend API and `role.*` events give it."""

    id: Id
    key: Id
    name: str | None = None
    permissions: list[_Permission] | None = None
    updated_at: At = 0


class Envelope(Struct):
    """What every webhook is wrapped in. The id of the message is a header, not here."""

    type: Word
    data: Raw
    instance_id: Word | None = None


_envelope = msgspec.json.Decoder(Envelope)
_user = msgspec.json.Decoder(UserWire)
_organization = msgspec.json.Decoder(OrganizationWire)
_membership = msgspec.json.Decoder(MembershipWire)
_role = msgspec.json.Decoder(RoleWire)
_deleted = msgspec.json.Decoder(_Deleted)
_of_organization = msgspec.json.Decoder(_OfOrganization)


def read(decode: Callable[[bytes | Raw], T], raw: bytes | Raw) -> T:
    """Decode one object, without what of it is bad and can be done without (see clerk.bounds).

    Raises Unreadable with the place of the fault, never another error.
    """
    try:
        return bounds.decode(decode, raw)
    except bounds.UNREADABLE as error:
        raise Unreadable(f"Clerk sent something that can't be read: {error}") from error


def read_envelope(body: bytes) -> Envelope:
    """The envelope of a webhook. Raises Unreadable."""
    return read(_envelope.decode, bounds.mended(body))


def to_user(wire: UserWire) -> Seen:
    """A user in our words, with Clerk's version of it."""
    primary = None
    for address in wire.email_addresses or ():
        if address.id == wire.primary_email_address_id:
            primary = address
            break
    is_verified = primary is not None and primary.verification is not None and primary.verification.status == "verified"
    user = User(
        clerk_id=ClerkId(wire.id),
        email=primary.email_address if primary else None,
        is_email_verified=is_verified,
        first_name=_name(wire.first_name),
        last_name=_name(wire.last_name),
        username=_name(wire.username),
        image_url=_url(wire.image_url),
        external_id=None if wire.external_id is UNSET else wire.external_id,
        is_banned=bool(wire.banned),
        is_deprovisioned=bool(wire.deprovisioned),
        public_metadata=_metadata(wire.public_metadata),
        joined_at=wire.created_at or 0,
        last_sign_in_at=wire.last_sign_in_at,
        last_active_at=wire.last_active_at,
    )
    return _seen(user, wire.updated_at, _not_sent(wire, _USER_FIELDS))


def to_emails(wire: UserWire) -> list[EmailAddress]:
    """Every address of a user."""
    primary = _text(wire.primary_email_address_id)
    return [_to_email(it, primary=primary) for it in wire.email_addresses or []]


def to_email(wire: EmailWire) -> EmailAddress:
    """One address, by itself."""
    return _to_email(wire, primary=None)


def _to_email(wire: EmailWire, *, primary: str | None) -> EmailAddress:
    is_verified = wire.verification is not None and wire.verification.status == "verified"
    return EmailAddress(
        clerk_id=ClerkId(wire.id), email=wire.email_address, is_verified=is_verified, is_primary=wire.id == primary
    )


def to_organization(wire: OrganizationWire) -> Seen:
    """An organization in our words. Clerk's 0 for "no limit" becomes None, as does what no organization reaches."""
    organization = Organization(
        clerk_id=ClerkId(wire.id),
        name=_name(wire.name) or wire.id,
        slug=wire.slug if isinstance(wire.slug, str) and len(wire.slug) <= LONGEST_NAME else None,
        image_url=_url(wire.image_url),
        max_members=_limit(wire.max_allowed_memberships),
        public_metadata=_metadata(wire.public_metadata),
        joined_at=wire.created_at or 0,
    )
    return _seen(organization, wire.updated_at, _not_sent(wire, _ORGANIZATION_FIELDS))


def to_embedded(wire: OrganizationWire) -> Seen:
    """An organization that came within another thing: it decides nothing that it does not say whole."""
    found = to_organization(wire)
    return replace(found, is_embedded=True) if found.absent else found


def to_membership(wire: MembershipWire) -> Seen:
    """A membership in our words. Raises Unreadable where it names no person."""
    user = wire.public_user_data.user_id
    if not user:
        raise Unreadable(f"The membership {wire.id} names no user.")
    membership = Membership(
        clerk_id=ClerkId(wire.id),
        organization=ClerkId(wire.organization.id),
        user=ClerkId(user),
        role=wire.role,
        joined_at=wire.created_at or 0,
    )
    return _seen(membership, wire.updated_at)


def to_invitation(wire: InvitationWire) -> Invitation:
    """An invitation in our words."""
    by = wire.public_inviter_data
    name = " ".join(part for part in (_name(by.first_name), _name(by.last_name)) if part) if by else ""
    return Invitation(
        clerk_id=ClerkId(wire.id),
        email=wire.email_address,
        role=wire.role,
        status=wire.status,
        created_at=wire.created_at or 0,
        expires_at=wire.expires_at,
        inviter=name or (_name(by.identifier) if by else None),
        public_metadata=wire.public_metadata or {},
        private_metadata=wire.private_metadata or {},
        user=ClerkId(wire.user_id) if wire.user_id else None,
        inviter_id=_inviter_id(wire),
        updated_at=(wire.updated_at if is_time(wire.updated_at) else wire.created_at) or 0,
    )


def _inviter_id(wire: InvitationWire) -> ClerkId | None:
    by = wire.public_inviter_data
    found = wire.inviter_id or (by.user_id if by else None)
    return ClerkId(found) if found else None


_USER_FIELDS = (
    ("primary_email_address_id", ("email", "is_email_verified")),
    ("email_addresses", ("email", "is_email_verified")),
    ("first_name", ("first_name",)),
    ("last_name", ("last_name",)),
    ("username", ("username",)),
    ("external_id", ("external_id",)),
    ("banned", ("is_banned",)),
    ("deprovisioned", ("is_deprovisioned",)),
    ("public_metadata", ("public_metadata",)),
)
_ORGANIZATION_FIELDS = (
    ("name", ("name",)),
    ("slug", ("slug",)),
    ("max_allowed_memberships", ("max_members",)),
    ("public_metadata", ("public_metadata",)),
)
_EVERYTHING: frozenset[str] = frozenset()


def _not_sent(wire: Struct, fields: Sequence[tuple[str, tuple[str, ...]]]) -> frozenset[str]:
    """Return the names of our fields of which Clerk sent nothing, not even that they are empty."""
    found: list[str] = []
    for name, ours in fields:
        value = getattr(wire, name)
        if value is UNSET or value is NOT_SENT:
            found += ours
    return frozenset(found) if found else _EVERYTHING


def _text(value: Text) -> str | None:
    return value if isinstance(value, str) and value else None


def _seen(entity: Entity, version: int, absent: frozenset[str] = _EVERYTHING) -> Seen:
    """The news of an entity. Metadata are kept as they came, and read here for the first time."""
    try:
        if not isinstance(entity, Membership) and entity.public_metadata is not NO_METADATA:
            _check_depth(entity)
        return seen(entity, version, absent)
    except bounds.UNREADABLE as error:
        raise Unreadable(f"The metadata of {entity.clerk_id} can't be read: {error}") from error


def _check_depth(entity: User | Organization) -> None:
    """Nothing that a page or a client can't give back. Raises Unreadable."""
    written = bytes(entity.public_metadata)
    if written.count(b"{") + written.count(b"[") > MOST_LEVELS and is_deep(msgspec.json.decode(written)):
        raise Unreadable(f"The metadata of {entity.clerk_id} can't be kept: {DEEP}")


def _name(text: Text) -> str | None:
    return text[:LONGEST_NAME] if isinstance(text, str) and text else None


def _url(text: str | None) -> str | None:
    return text if text and len(text) <= LONGEST_URL else None


def _limit(wanted: int | UnsetType | None) -> int | None:
    return wanted if isinstance(wanted, int) and 0 < wanted <= MOST_MEMBERS else None


def _metadata(raw: Raw) -> Raw:
    """Metadata as they came; empty where they are no object: Clerk's specification knows no others."""
    written = bytes(raw)  # a copy: the page that it came with is not to stay with it
    return Raw(written) if written != b"{}" and bounds.is_object(written) else NO_METADATA


def say(body: bytes) -> list[Said]:
    """What a delivery says, in the order in which it must be taken. Raises Unreadable."""
    envelope = read_envelope(body)
    reader = _READERS.get(envelope.type)
    return reader(envelope.data) if reader else [NotForUs(envelope.type)]


def _user_seen(data: Raw) -> list[Said]:
    return [to_user(read(_user.decode, data))]


def _organization_seen(data: Raw) -> list[Said]:
    return [to_organization(read(_organization.decode, data))]


def _membership_seen(data: Raw) -> list[Said]:
    wire = read(_membership.decode, data)
    person = wire.public_user_data
    said: list[Said] = [to_embedded(wire.organization), to_membership(wire)]
    if person.banned is not None or person.deprovisioned is not None:
        said.append(BarSeen(Key("user", ClerkId(person.user_id or "")), person.banned, person.deprovisioned))
    return said


def _membership_gone(data: Raw) -> list[Said]:
    last = to_membership(read(_membership.decode, data))
    return [Gone(last.key, last.entity)]


def _gone(kind: Kind) -> Callable[[Raw], list[Said]]:
    return lambda data: [Gone(Key(kind, ClerkId(read(_deleted.decode, data).id)))]


def _invitation_touched(data: Raw) -> list[Said]:
    return [Touched(ClerkId(read(_of_organization.decode, data).organization_id))]


def to_role(wire: RoleWire) -> RoleSeen:
    """A role in our words."""
    keys = None if wire.permissions is None else tuple(it.key for it in wire.permissions)
    return RoleSeen(id=wire.id, key=wire.key, name=wire.name or "", permissions=keys, version=wire.updated_at)


def _role_changed(data: Raw) -> list[Said]:
    role = to_role(read(_role.decode, data))
    return [RoleChanged(role)] if role.permissions is not None else [RoleChanged(role), RoleChanged()]


def _role_gone(data: Raw) -> list[Said]:
    return [RoleGone(read(_deleted.decode, data).id)]


def _permission_changed(_data: Raw) -> list[Said]:
    return [RoleChanged()]


def _session_ended(data: Raw) -> list[Said]:
    return [SessionEnded(ClerkId(read(_deleted.decode, data).id))]


_READERS: dict[str, Callable[[Raw], list[Said]]] = {
    "user.created": _user_seen,
    "user.updated": _user_seen,
    "user.deleted": _gone("user"),
    "organization.created": _organization_seen,
    "organization.updated": _organization_seen,
    "organization.deleted": _gone("organization"),
    "organizationMembership.created": _membership_seen,
    "organizationMembership.updated": _membership_seen,
    "organizationMembership.deleted": _membership_gone,
    "organizationInvitation.created": _invitation_touched,
    "organizationInvitation.accepted": _invitation_touched,
    "organizationInvitation.revoked": _invitation_touched,
    "role.created": _role_changed,
    "role.updated": _role_changed,
    "role.deleted": _role_gone,
    "permission.created": _permission_changed,
    "permission.updated": _permission_changed,
    "permission.deleted": _permission_changed,
    "session.ended": _session_ended,
    "session.removed": _session_ended,
    "session.revoked": _session_ended,
}


def read_all(decoder: type[S], raws: Sequence[Raw]) -> tuple[list[S], list[str]]:
    """Every object that can be read, and a sentence for each that can't: one bad row never fails its page."""
    decode = msgspec.json.Decoder(decoder).decode
    good: list[S] = []
    bad: list[str] = []
    for raw in raws:
        try:
            good.append(read(decode, raw))
        except Unreadable as error:
            bad.append(str(error))
    return good, bad
