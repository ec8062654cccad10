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
    """Return the id of an unreadable row; None if it has none."""
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


def parse_subject_ids(event_type: str, data: Raw) -> tuple[str | None, str | None]:
    """Return the user id and the organization id in the data of an event."""
    try:
        subject = _decode_subject(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None, None
    family = event_type.partition(".")[0]
    user = subject.id if family == "user" else subject.user_id or _get_nested(subject.public_user_data, "user_id")
    organization = (
        subject.id if family == "organization" else subject.organization_id or _get_nested(subject.organization, "id")
    )
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
# Stands for metadata that Clerk did not send.
MISSING_METADATA = Raw(b"")
MAX_MEMBER_LIMIT = 2**31 - 1


class UnreadableDataError(PermanentError):
    """Data from Clerk that violates its specification; stored for a person to inspect."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="unreadable")


class _EmailVerification(Struct, gc=False):
    status: str | None = None


class ClerkEmailPayload(Struct, gc=False):
    """An email address of the Backend API."""

    id: str
    email_address: EmailString
    verification: _EmailVerification | None = None


class ClerkUserPayload(Struct, gc=False):
    """A user of the Backend API and of `user.*` events. UNSET: not sent, which differs from empty."""

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
    """An organization of the Backend API, `organization.*` events and memberships."""

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
    """A membership of the Backend API and of `organizationMembership.*` events."""

    id: IdString
    role: RoleKeyString
    organization: ClerkOrganizationPayload
    public_user_data: _PublicUserData
    updated_at: VersionNumber = 0
    created_at: UnixMillis | None = 0


class ClerkInvitationPayload(Struct):
    """An organization invitation. Its `url` is a secret and is not decoded here."""

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
    """A role of the Backend API and of `role.*` events."""

    id: IdString
    key: IdString
    name: str | None = None
    permissions: list[_PermissionPayload] | None = None
    updated_at: UnixMillis = 0


class ClerkWebhookEnvelope(Struct):
    """The envelope of every webhook. The message id is a header."""

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
        raise UnreadableDataError(f"Clerk sent unreadable data: {error}") from error


def parse_envelope(body: bytes) -> ClerkWebhookEnvelope:
    """Parse the envelope of a webhook. Raises UnreadableDataError."""
    return parse_object(_envelope_decoder.decode, lenient_json.replace_invalid_characters(body))


def to_user(payload: ClerkUserPayload) -> Observation:
    """Convert a user to an observation with Clerk's version."""
    primary = None
    for address in payload.email_addresses or ():
        if address.id == payload.primary_email_address_id:
            primary = address
            break
    is_verified = primary is not None and primary.verification is not None and primary.verification.status == "verified"
    user = ClerkUser(
        clerk_id=ClerkId(payload.id),
        email=primary.email_address if primary else None,
        is_email_verified=is_verified,
        first_name=_truncate_name(payload.first_name),
        last_name=_truncate_name(payload.last_name),
        username=_truncate_name(payload.username),
        image_url=_url_or_none(payload.image_url),
        external_id=None if payload.external_id is UNSET else payload.external_id,
        is_banned=bool(payload.banned),
        is_deprovisioned=bool(payload.deprovisioned),
        public_metadata=_metadata_or_empty(payload.public_metadata),
        joined_at=payload.created_at or 0,
        last_sign_in_at=payload.last_sign_in_at,
        last_active_at=payload.last_active_at,
    )
    return _to_observation(user, payload.updated_at, _find_missing_fields(payload, _USER_FIELDS))


def to_email_addresses(payload: ClerkUserPayload) -> list[ClerkEmailAddress]:
    """Convert all addresses of a user."""
    primary = _text_or_none(payload.primary_email_address_id)
    return [_to_email_address(address, primary=primary) for address in payload.email_addresses or []]


def to_email_address(payload: ClerkEmailPayload) -> ClerkEmailAddress:
    """Convert a single address; it counts as not primary."""
    return _to_email_address(payload, primary=None)


def _to_email_address(payload: ClerkEmailPayload, *, primary: str | None) -> ClerkEmailAddress:
    is_verified = payload.verification is not None and payload.verification.status == "verified"
    return ClerkEmailAddress(
        clerk_id=ClerkId(payload.id),
        email=payload.email_address,
        is_verified=is_verified,
        is_primary=payload.id == primary,
    )


def to_organization(payload: ClerkOrganizationPayload) -> Observation:
    """Convert an organization. A member limit of 0 (unlimited) or beyond MAX_MEMBER_LIMIT becomes None."""
    organization = ClerkOrganization(
        clerk_id=ClerkId(payload.id),
        name=_truncate_name(payload.name) or payload.id,
        slug=payload.slug if isinstance(payload.slug, str) and len(payload.slug) <= MAX_NAME_LENGTH else None,
        image_url=_url_or_none(payload.image_url),
        max_members=_member_limit_or_none(payload.max_allowed_memberships),
        public_metadata=_metadata_or_empty(payload.public_metadata),
        joined_at=payload.created_at or 0,
    )
    return _to_observation(organization, payload.updated_at, _find_missing_fields(payload, _ORGANIZATION_FIELDS))


def to_embedded_organization(payload: ClerkOrganizationPayload) -> Observation:
    """Convert an organization embedded in another object; if fields are missing, the result is marked as embedded."""
    organization = to_organization(payload)
    return replace(organization, is_embedded=True) if organization.absent else organization


def to_membership(payload: ClerkMembershipPayload) -> Observation:
    """Convert a membership. Raises UnreadableDataError if it has no user."""
    user = payload.public_user_data.user_id
    if not user:
        raise UnreadableDataError(f"The membership {payload.id} has no user.")
    membership = ClerkMembership(
        clerk_id=ClerkId(payload.id),
        organization=ClerkId(payload.organization.id),
        user=ClerkId(user),
        role=payload.role,
        joined_at=payload.created_at or 0,
    )
    return _to_observation(membership, payload.updated_at)


def to_invitation(payload: ClerkInvitationPayload) -> ClerkInvitation:
    """Convert an invitation."""
    inviter = payload.public_inviter_data
    name = (
        " ".join(part for part in (_truncate_name(inviter.first_name), _truncate_name(inviter.last_name)) if part)
        if inviter
        else ""
    )
    return ClerkInvitation(
        clerk_id=ClerkId(payload.id),
        email=payload.email_address,
        role=payload.role,
        status=payload.status,
        created_at=payload.created_at or 0,
        expires_at=payload.expires_at,
        inviter=name or (_truncate_name(inviter.identifier) if inviter else None),
        public_metadata=payload.public_metadata or {},
        private_metadata=payload.private_metadata or {},
        user=ClerkId(payload.user_id) if payload.user_id else None,
        inviter_id=_get_inviter_id(payload),
        updated_at=(payload.updated_at if is_valid_time(payload.updated_at) else payload.created_at) or 0,
    )


def _get_inviter_id(payload: ClerkInvitationPayload) -> ClerkId | None:
    inviter = payload.public_inviter_data
    inviter_id = payload.inviter_id or (inviter.user_id if inviter else None)
    return ClerkId(inviter_id) if inviter_id else None


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


def _find_missing_fields(payload: Struct, fields: Sequence[tuple[str, tuple[str, ...]]]) -> frozenset[str]:
    """Return the names of our fields that Clerk did not send at all."""
    found: list[str] = []
    for name, field_names in fields:
        value = getattr(payload, name)
        if value is UNSET or value is MISSING_METADATA:
            found += field_names
    return frozenset(found) if found else _NOTHING_MISSING


def _text_or_none(value: OptionalText) -> str | None:
    return value if isinstance(value, str) and value else None


def _to_observation(entity: Entity, version: int, missing: frozenset[str] = _NOTHING_MISSING) -> Observation:
    """Build an observation of an entity; its metadata is decoded lazily."""
    try:
        if not isinstance(entity, ClerkMembership) and entity.public_metadata is not EMPTY_METADATA:
            _check_depth(entity)
        return make_observation(entity, version, missing)
    except lenient_json.DECODE_ERRORS as error:
        raise UnreadableDataError(f"The metadata of {entity.clerk_id} can't be read: {error}") from error


def _check_depth(entity: ClerkUser | ClerkOrganization) -> None:
    """Check that metadata can be stored and shown. Raises UnreadableDataError if it is nested too deeply."""
    metadata = bytes(entity.public_metadata)
    if metadata.count(b"{") + metadata.count(b"[") > MAX_NESTING and is_nested_too_deeply(
        msgspec.json.decode(metadata)
    ):
        raise UnreadableDataError(f"The metadata of {entity.clerk_id} can't be stored: {NESTING_MESSAGE}")


def _truncate_name(text: OptionalText) -> str | None:
    return text[:MAX_NAME_LENGTH] if isinstance(text, str) and text else None


def _url_or_none(text: str | None) -> str | None:
    return text if text and len(text) <= MAX_URL_LENGTH else None


def _member_limit_or_none(limit: int | UnsetType | None) -> int | None:
    return limit if isinstance(limit, int) and 0 < limit <= MAX_MEMBER_LIMIT else None


def _metadata_or_empty(raw: Raw) -> Raw:
    """Return metadata undecoded; empty if it is not an object, which Clerk's specification rules out."""
    metadata = bytes(raw)  # a copy, so that the page is not kept in memory
    return Raw(metadata) if metadata != b"{}" and lenient_json.is_json_object(metadata) else EMPTY_METADATA


def parse_webhook(body: bytes) -> list[WebhookEvent]:
    """Parse a delivery's body into events in the order in which to apply them. Raises UnreadableDataError."""
    envelope = parse_envelope(body)
    parse = _PARSERS_BY_TYPE.get(envelope.type)
    return parse(envelope.data) if parse else [IrrelevantEvent(envelope.type)]


def _parse_user(data: Raw) -> list[WebhookEvent]:
    return [to_user(parse_object(_user_decoder.decode, data))]


def _parse_organization(data: Raw) -> list[WebhookEvent]:
    return [to_organization(parse_object(_organization_decoder.decode, data))]


def _parse_membership(data: Raw) -> list[WebhookEvent]:
    payload = parse_object(_membership_decoder.decode, data)
    user = payload.public_user_data
    events: list[WebhookEvent] = [to_embedded_organization(payload.organization), to_membership(payload)]
    if user.banned is not None or user.deprovisioned is not None:
        events.append(UserRestrictions(EntityKey("user", ClerkId(user.user_id or "")), user.banned, user.deprovisioned))
    return events


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


def to_role(payload: ClerkRolePayload) -> ClerkRole:
    """Convert a role."""
    permissions = None if payload.permissions is None else tuple(row.key for row in payload.permissions)
    return ClerkRole(
        id=payload.id, key=payload.key, name=payload.name or "", permissions=permissions, version=payload.updated_at
    )


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
    """Decode rows; also return a message for each unreadable one, so that one bad row never fails its page."""
    decode = msgspec.json.Decoder(decoder).decode
    readable: list[S] = []
    unreadable: list[str] = []
    for raw in raws:
        try:
            readable.append(parse_object(decode, raw))
        except UnreadableDataError as error:
            unreadable.append(str(error))
    return readable, unreadable
