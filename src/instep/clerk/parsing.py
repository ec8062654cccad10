"""Parsing of Clerk's API objects and webhook events into domain types."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import replace

from instep.clerk import lenient_json
from instep.clerk.lenient_json import (
    MAX_EMAIL_LENGTH,
    MAX_ID_LENGTH,
    MAX_NAME_LENGTH,
    MAX_ROLE_LENGTH,
    MAX_URL_LENGTH,
    MAX_VERSION,
)
from instep.core.clock import MAX_TIME, is_valid_time
from instep.core.errors import PermanentError
from instep.core.input_limits import MAX_NESTING, NESTING_MESSAGE, is_nested_too_deeply
from instep.domain.events import (
    IrrelevantEvent,
    Observation,
    OrganizationInvitationsChanged,
    RoleChanged,
    RoleDeleted,
    SessionEnded,
    Tombstone,
    UserRestrictions,
    WebhookEvent,
    make_observation,
)
from instep.domain.models import (
    EMPTY_METADATA,
    ClerkEmailAddress,
    ClerkId,
    ClerkInvitation,
    ClerkMembership,
    ClerkOrganization,
    ClerkUser,
    Entity,
    EntityKey,
    EntityKind,
)
from instep.domain.roles import ClerkRole


class _IdPayload(Struct):
    id: str


def parse_id(raw: Raw) -> str | None:
    """The id of a row that can't be read; None where not even that can."""
    try:
        return msgspec.json.decode(raw, type=_IdPayload).id
    except lenient_json.DECODE_ERRORS:
        return None


class _SubjectFields(Struct):
    id: Any = None
    user_id: Any = None
    organization_id: Any = None
    organization: Any = None
    public_user_data: Any = None


_decode_subject = msgspec.json.Decoder(_SubjectFields).decode


def parse_subject_ids(type: str, data: Raw) -> tuple[str | None, str | None]:
    """The user and the organization that the data of an event name."""
    try:
        it = _decode_subject(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None, None
    family = type.partition(".")[0]
    user = it.id if family == "user" else it.user_id or _get_nested(it.public_user_data, "user_id")
    organization = it.id if family == "organization" else it.organization_id or _get_nested(it.organization, "id")
    return _id_or_none(user), _id_or_none(organization)


def _get_nested(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _id_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) < 200 and "\0" not in value else None


S = TypeVar("S", bound=Struct)
T = TypeVar("T")
VersionNumber = Annotated[int, Meta(ge=0, le=MAX_VERSION)]
UnixMillis = Annotated[int, Meta(ge=0, lt=MAX_TIME)]
IdString = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
RoleKeyString = Annotated[str, Meta(max_length=MAX_ROLE_LENGTH)]
EmailString = Annotated[str, Meta(max_length=MAX_EMAIL_LENGTH)]
AsciiString = Annotated[str, Meta(max_length=200, pattern="^[ -~]*$")]
OptionalFlag = bool | UnsetType | None
OptionalText = str | UnsetType | None
MISSING_METADATA = Raw(b"")


"""Stands for metadata that Clerk did not send."""


MAX_MEMBER_LIMIT = 2**31 - 1


class UnreadableDataError(PermanentError):
    """What came is not what Clerk's specification says: kept for a person to look at."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="unreadable")


class _EmailVerification(Struct, gc=False):
    status: str | None = None


class ClerkEmailPayload(Struct, gc=False):
    """An address as the Backend API gives it."""

    id: str
    email_address: EmailString
    verification: _EmailVerification | None = None


class ClerkUserPayload(Struct, gc=False):
    """A user as the Backend API and `user.*` events give it. UNSET: not sent, which is not the same as empty."""

    id: IdString
    updated_at: VersionNumber = 0
    created_at: UnixMillis | None = 0
    primary_email_address_id: OptionalText = UNSET
    email_addresses: list[ClerkEmailPayload] | UnsetType | None = UNSET
    first_name: OptionalText = UNSET
    last_name: OptionalText = UNSET
    username: OptionalText = UNSET
    image_url: str | None = None
    external_id: OptionalText = UNSET
    banned: OptionalFlag = UNSET
    deprovisioned: OptionalFlag = UNSET
    public_metadata: Raw = MISSING_METADATA
    last_sign_in_at: UnixMillis | None = None
    last_active_at: UnixMillis | None = None


class ClerkOrganizationPayload(Struct, gc=False):
    """An organization as the Backend API, `organization.*` events and memberships give it."""

    id: IdString
    name: str | UnsetType = UNSET
    updated_at: VersionNumber = 0
    created_at: UnixMillis | None = 0
    slug: OptionalText = UNSET
    image_url: str | None = None
    max_allowed_memberships: int | UnsetType | None = UNSET
    public_metadata: Raw = MISSING_METADATA


class _PublicUserData(Struct, gc=False):
    user_id: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    identifier: str | None = None
    banned: bool | None = None
    deprovisioned: bool | None = None


class ClerkMembershipPayload(Struct, gc=False):
    """A membership as the Backend API and `organizationMembership.*` events give it."""

    id: IdString
    role: RoleKeyString
    organization: ClerkOrganizationPayload
    public_user_data: _PublicUserData
    updated_at: VersionNumber = 0
    created_at: UnixMillis | None = 0


class ClerkInvitationPayload(Struct):
    """An organization invitation. Its `url` is a secret and is not read here."""

    id: IdString
    email_address: EmailString
    role: RoleKeyString
    status: str
    organization_id: str = ""
    created_at: UnixMillis | None = 0
    updated_at: VersionNumber | None = 0
    expires_at: UnixMillis | None = None
    inviter_id: str | None = None
    public_inviter_data: _PublicUserData | None = None
    public_metadata: dict[str, Any] | None = None
    private_metadata: dict[str, Any] | None = None
    user_id: str | None = None


class _DeletedObject(Struct):
    id: IdString


class _OrganizationReference(Struct):
    organization_id: str


class _PermissionPayload(Struct):
    key: str


class ClerkRolePayload(Struct):
    """A role as the Backend API and `role.*` events give it."""

    id: IdString
    key: IdString
    name: str | None = None
    permissions: list[_PermissionPayload] | None = None
    updated_at: UnixMillis = 0


class ClerkWebhookEnvelope(Struct):
    """What every webhook is wrapped in. The id of the message is a header, not here."""

    type: AsciiString
    data: Raw
    instance_id: AsciiString | None = None


_envelope_decoder = msgspec.json.Decoder(ClerkWebhookEnvelope)
_user_decoder = msgspec.json.Decoder(ClerkUserPayload)
_organization_decoder = msgspec.json.Decoder(ClerkOrganizationPayload)
_membership_decoder = msgspec.json.Decoder(ClerkMembershipPayload)
_role_decoder = msgspec.json.Decoder(ClerkRolePayload)
_deleted_decoder = msgspec.json.Decoder(_DeletedObject)
_organization_reference_decoder = msgspec.json.Decoder(_OrganizationReference)


def parse_object(decode: Callable[[bytes | Raw], T], raw: bytes | Raw) -> T:
    """Decode one object, without what of it is bad and can be done without (see clerk.bounds).

    Raises Unreadable with the place of the fault, never another error.
    """
    try:
        return lenient_json.decode_leniently(decode, raw)
    except lenient_json.DECODE_ERRORS as error:
        raise UnreadableDataError(f"Clerk sent something that can't be read: {error}") from error


def parse_envelope(body: bytes) -> ClerkWebhookEnvelope:
    """The envelope of a webhook. Raises Unreadable."""
    return parse_object(_envelope_decoder.decode, lenient_json.replace_invalid_characters(body))


def to_user(wire: ClerkUserPayload) -> Observation:
    """A user in our words, with Clerk's version of it."""
    primary = None
    for address in wire.email_addresses or ():
        if address.id == wire.primary_email_address_id:
            primary = address
            break
    is_verified = primary is not None and primary.verification is not None and primary.verification.status == "verified"
    user = ClerkUser(
        clerk_id=ClerkId(wire.id),
        email=primary.email_address if primary else None,
        is_email_verified=is_verified,
        first_name=_truncate_name(wire.first_name),
        last_name=_truncate_name(wire.last_name),
        username=_truncate_name(wire.username),
        image_url=_url_or_none(wire.image_url),
        external_id=None if wire.external_id is UNSET else wire.external_id,
        is_banned=bool(wire.banned),
        is_deprovisioned=bool(wire.deprovisioned),
        public_metadata=_metadata_or_empty(wire.public_metadata),
        joined_at=wire.created_at or 0,
        last_sign_in_at=wire.last_sign_in_at,
        last_active_at=wire.last_active_at,
    )
    return _to_observation(user, wire.updated_at, _find_missing_fields(wire, _USER_FIELDS))


def to_email_addresses(wire: ClerkUserPayload) -> list[ClerkEmailAddress]:
    """Every address of a user."""
    primary = _text_or_none(wire.primary_email_address_id)
    return [_to_email_address(it, primary=primary) for it in wire.email_addresses or []]


def to_email_address(wire: ClerkEmailPayload) -> ClerkEmailAddress:
    """One address, by itself."""
    return _to_email_address(wire, primary=None)


def _to_email_address(wire: ClerkEmailPayload, *, primary: str | None) -> ClerkEmailAddress:
    is_verified = wire.verification is not None and wire.verification.status == "verified"
    return ClerkEmailAddress(
        clerk_id=ClerkId(wire.id), email=wire.email_address, is_verified=is_verified, is_primary=wire.id == primary
    )


def to_organization(wire: ClerkOrganizationPayload) -> Observation:
    """An organization in our words. Clerk's 0 for "no limit" becomes None, as does what no organization reaches."""
    organization = ClerkOrganization(
        clerk_id=ClerkId(wire.id),
        name=_truncate_name(wire.name) or wire.id,
        slug=wire.slug if isinstance(wire.slug, str) and len(wire.slug) <= MAX_NAME_LENGTH else None,
        image_url=_url_or_none(wire.image_url),
        max_members=_member_limit_or_none(wire.max_allowed_memberships),
        public_metadata=_metadata_or_empty(wire.public_metadata),
        joined_at=wire.created_at or 0,
    )
    return _to_observation(organization, wire.updated_at, _find_missing_fields(wire, _ORGANIZATION_FIELDS))


def to_embedded_organization(wire: ClerkOrganizationPayload) -> Observation:
    """An organization that came within another thing: it decides nothing that it does not say whole."""
    found = to_organization(wire)
    return replace(found, is_embedded=True) if found.absent else found


def to_membership(wire: ClerkMembershipPayload) -> Observation:
    """A membership in our words. Raises Unreadable where it names no person."""
    user = wire.public_user_data.user_id
    if not user:
        raise UnreadableDataError(f"The membership {wire.id} names no user.")
    membership = ClerkMembership(
        clerk_id=ClerkId(wire.id),
        organization=ClerkId(wire.organization.id),
        user=ClerkId(user),
        role=wire.role,
        joined_at=wire.created_at or 0,
    )
    return _to_observation(membership, wire.updated_at)


def to_invitation(wire: ClerkInvitationPayload) -> ClerkInvitation:
    """An invitation in our words."""
    by = wire.public_inviter_data
    name = (
        " ".join(part for part in (_truncate_name(by.first_name), _truncate_name(by.last_name)) if part) if by else ""
    )
    return ClerkInvitation(
        clerk_id=ClerkId(wire.id),
        email=wire.email_address,
        role=wire.role,
        status=wire.status,
        created_at=wire.created_at or 0,
        expires_at=wire.expires_at,
        inviter=name or (_truncate_name(by.identifier) if by else None),
        public_metadata=wire.public_metadata or {},
        private_metadata=wire.private_metadata or {},
        user=ClerkId(wire.user_id) if wire.user_id else None,
        inviter_id=_get_inviter_id(wire),
        updated_at=(wire.updated_at if is_valid_time(wire.updated_at) else wire.created_at) or 0,
    )


def _get_inviter_id(wire: ClerkInvitationPayload) -> ClerkId | None:
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
_NOTHING_MISSING: frozenset[str] = frozenset()


def _find_missing_fields(wire: Struct, fields: Sequence[tuple[str, tuple[str, ...]]]) -> frozenset[str]:
    """Return the names of our fields of which Clerk sent nothing, not even that they are empty."""
    found: list[str] = []
    for name, ours in fields:
        value = getattr(wire, name)
        if value is UNSET or value is MISSING_METADATA:
            found += ours
    return frozenset(found) if found else _NOTHING_MISSING


def _text_or_none(value: OptionalText) -> str | None:
    return value if isinstance(value, str) and value else None


def _to_observation(entity: Entity, version: int, absent: frozenset[str] = _NOTHING_MISSING) -> Observation:
    """The news of an entity. Metadata are kept as they came, and read here for the first time."""
    try:
        if not isinstance(entity, ClerkMembership) and entity.public_metadata is not EMPTY_METADATA:
            _check_depth(entity)
        return make_observation(entity, version, absent)
    except lenient_json.DECODE_ERRORS as error:
        raise UnreadableDataError(f"The metadata of {entity.clerk_id} can't be read: {error}") from error


def _check_depth(entity: ClerkUser | ClerkOrganization) -> None:
    """Nothing that a page or a client can't give back. Raises Unreadable."""
    written = bytes(entity.public_metadata)
    if written.count(b"{") + written.count(b"[") > MAX_NESTING and is_nested_too_deeply(msgspec.json.decode(written)):
        raise UnreadableDataError(f"The metadata of {entity.clerk_id} can't be kept: {NESTING_MESSAGE}")


def _truncate_name(text: OptionalText) -> str | None:
    return text[:MAX_NAME_LENGTH] if isinstance(text, str) and text else None


def _url_or_none(text: str | None) -> str | None:
    return text if text and len(text) <= MAX_URL_LENGTH else None


def _member_limit_or_none(wanted: int | UnsetType | None) -> int | None:
    return wanted if isinstance(wanted, int) and 0 < wanted <= MAX_MEMBER_LIMIT else None


def _metadata_or_empty(raw: Raw) -> Raw:
    """Metadata as they came; empty where they are no object: Clerk's specification knows no others."""
    written = bytes(raw)  # a copy: the page that it came with is not to stay with it
    return Raw(written) if written != b"{}" and lenient_json.is_json_object(written) else EMPTY_METADATA


def parse_webhook(body: bytes) -> list[WebhookEvent]:
    """What a delivery says, in the order in which it must be taken. Raises Unreadable."""
    envelope = parse_envelope(body)
    reader = _PARSERS_BY_TYPE.get(envelope.type)
    return reader(envelope.data) if reader else [IrrelevantEvent(envelope.type)]


def _parse_user(data: Raw) -> list[WebhookEvent]:
    return [to_user(parse_object(_user_decoder.decode, data))]


def _parse_organization(data: Raw) -> list[WebhookEvent]:
    return [to_organization(parse_object(_organization_decoder.decode, data))]


def _parse_membership(data: Raw) -> list[WebhookEvent]:
    wire = parse_object(_membership_decoder.decode, data)
    person = wire.public_user_data
    said: list[WebhookEvent] = [to_embedded_organization(wire.organization), to_membership(wire)]
    if person.banned is not None or person.deprovisioned is not None:
        said.append(
            UserRestrictions(EntityKey("user", ClerkId(person.user_id or "")), person.banned, person.deprovisioned)
        )
    return said


def _parse_membership_deletion(data: Raw) -> list[WebhookEvent]:
    last = to_membership(parse_object(_membership_decoder.decode, data))
    return [Tombstone(last.key, last.entity)]


def _make_deletion_parser(kind: EntityKind) -> Callable[[Raw], list[WebhookEvent]]:
    return lambda data: [Tombstone(EntityKey(kind, ClerkId(parse_object(_deleted_decoder.decode, data).id)))]


def _parse_invitation_change(data: Raw) -> list[WebhookEvent]:
    return [
        OrganizationInvitationsChanged(
            ClerkId(parse_object(_organization_reference_decoder.decode, data).organization_id)
        )
    ]


def to_role(wire: ClerkRolePayload) -> ClerkRole:
    """A role in our words."""
    keys = None if wire.permissions is None else tuple(it.key for it in wire.permissions)
    return ClerkRole(id=wire.id, key=wire.key, name=wire.name or "", permissions=keys, version=wire.updated_at)


def _parse_role_change(data: Raw) -> list[WebhookEvent]:
    role = to_role(parse_object(_role_decoder.decode, data))
    return [RoleChanged(role)] if role.permissions is not None else [RoleChanged(role), RoleChanged()]


def _parse_role_deletion(data: Raw) -> list[WebhookEvent]:
    return [RoleDeleted(parse_object(_deleted_decoder.decode, data).id)]


def _parse_permission_change(_data: Raw) -> list[WebhookEvent]:
    return [RoleChanged()]


def _parse_session_end(data: Raw) -> list[WebhookEvent]:
    return [SessionEnded(ClerkId(parse_object(_deleted_decoder.decode, data).id))]


_PARSERS_BY_TYPE: dict[str, Callable[[Raw], list[WebhookEvent]]] = {
    "user.created": _parse_user,
    "user.updated": _parse_user,
    "user.deleted": _make_deletion_parser("user"),
    "organization.created": _parse_organization,
    "organization.updated": _parse_organization,
    "organization.deleted": _make_deletion_parser("organization"),
    "organizationMembership.created": _parse_membership,
    "organizationMembership.updated": _parse_membership,
    "organizationMembership.deleted": _parse_membership_deletion,
    "organizationInvitation.created": _parse_invitation_change,
    "organizationInvitation.accepted": _parse_invitation_change,
    "organizationInvitation.revoked": _parse_invitation_change,
    "role.created": _parse_role_change,
    "role.updated": _parse_role_change,
    "role.deleted": _parse_role_deletion,
    "permission.created": _parse_permission_change,
    "permission.updated": _parse_permission_change,
    "permission.deleted": _parse_permission_change,
    "session.ended": _parse_session_end,
    "session.removed": _parse_session_end,
    "session.revoked": _parse_session_end,
}


def parse_rows(decoder: type[S], raws: Sequence[Raw]) -> tuple[list[S], list[str]]:
    """Every object that can be read, and a sentence for each that can't: one bad row never fails its page."""
    decode = msgspec.json.Decoder(decoder).decode
    good: list[S] = []
    bad: list[str] = []
    for raw in raws:
        try:
            good.append(parse_object(decode, raw))
        except UnreadableDataError as error:
            bad.append(str(error))
    return good, bad
