"""REST schemas of users, their sessions and e-mail changes."""

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from instep.core.clock import to_iso
from instep.core.input_limits import object_or_empty
from instep.domain.models import PRESENT_STATUSES, ActiveSession
from instep.users import models
from instep.users.models import USER_STATUSES, ClerkRemoval, UserChanges, UserFilter, UserStatus, decode_cursor


class UserSession(BaseModel):
    """An active session, read live from Clerk; `device`, `place` and `ip_address` may be empty."""

    id: str
    created_at: str | None
    last_active_at: str | None
    device: str
    place: str
    ip_address: str


class UserSessionList(BaseModel):
    """Active sessions of a user, latest activity first."""

    data: list[UserSession]


class EndSessionsRequest(BaseModel):
    """The session to revoke; without it all sessions are revoked."""

    model_config = ConfigDict(extra="forbid")

    session: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class EndSessionsResult(BaseModel):
    """Number of sessions that were revoked."""

    ended: int


def make_user_session(session: ActiveSession) -> UserSession:
    """Create the response for a session."""
    return UserSession(
        id=session.id,
        created_at=to_iso(session.created_at),
        last_active_at=to_iso(session.last_active_at),
        device=session.device,
        place=session.place,
        ip_address=session.ip_address,
    )


NameField = Annotated[str | None, Field(max_length=1_000)]
EmailField = Annotated[str, Field(max_length=320, examples=["maya@example.com"])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UpdateUserRequest(_Strict):
    """Fields to change. An omitted field stays unchanged; null or an empty text clears a name.

    `public_metadata` and `attributes` are merged; a null in them removes a key. Attributes belong to the application
    and are stored in the database only.
    """

    first_name: NameField = None
    last_name: NameField = None
    username: NameField = None
    email: Annotated[str, Field(max_length=320)] | None = None
    public_metadata: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = None

    def to_changes(self) -> UserChanges:
        """Convert to the changes of the service."""
        cleared: dict[str, Any] = {
            name: "" for name in ("first_name", "last_name", "username") if name in self.model_fields_set
        }
        return UserChanges(**(cleared | self.model_dump(exclude_none=True)))


class CreateUserRequest(_Strict):
    """A user to create; with `clerk` false in the database only."""

    email: EmailField
    first_name: NameField = None
    last_name: NameField = None
    username: NameField = None
    public_metadata: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    clerk: bool = True

    def to_changes(self) -> UserChanges:
        """Convert to the changes of the service."""
        return UserChanges(**self.model_dump(exclude_none=True, exclude={"clerk"}))


class ChangeEmailRequest(_Strict):
    """The new email address of a user."""

    email: EmailField


class VerifyEmailRequest(_Strict):
    """The code that was sent to the new address, and the `verification` that the email change returned."""

    verification: Annotated[str, Field(min_length=1, max_length=100)]
    code: Annotated[SecretStr, Field(min_length=1, max_length=20)]


class SetPasswordRequest(_Strict):
    """The new password, checked by Clerk's password rules."""

    password: Annotated[SecretStr, Field(min_length=1, max_length=1_000)]


class UserListQuery(BaseModel):
    """Filter of the user list. `status` may be repeated; without it all but deleted users are returned."""

    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[str | None, Field(max_length=200)] = None
    query: Annotated[
        str, Field(max_length=200, pattern=r"^[^\x00]*$", description="Parts of a name or an email address, or an id.")
    ] = ""
    status: Annotated[
        list[UserStatus], Field(description=f"One of {', '.join(USER_STATUSES)}; local: without a Clerk account.")
    ] = []
    organization: Annotated[str | None, Field(max_length=200, pattern=r"^[^\x00]*$")] = None

    def to_filter(self) -> UserFilter:
        """Convert to the filter of the service. Raises ChangeRejectedError for an invalid cursor."""
        return UserFilter(
            limit=self.limit,
            query=self.query,
            statuses=frozenset(self.status),
            organization=self.organization,
            cursor=decode_cursor(self.cursor) if self.cursor else None,
        )


class DeleteUserQuery(BaseModel):
    """Action on the user in Clerk: delete, only ban, or keep (and end their sessions)."""

    clerk: ClerkRemoval = "delete"


class UserOrganization(BaseModel):
    """One organization of a user."""

    organization_id: str
    clerk_id: str | None
    name: str
    slug: str | None
    role: str
    status: Literal["active", "banned", "deprovisioned", "deactivated"]


class User(BaseModel):
    """A user. `role` is the application's, from the public metadata; some fields are only for instance admins."""

    id: str
    clerk_id: str | None
    email: str | None
    is_email_verified: bool
    first_name: str | None
    last_name: str | None
    username: str | None
    image_url: str | None
    role: str | None
    status: UserStatus
    organizations: list[UserOrganization]
    joined_at: str | None
    last_sign_in_at: str | None
    last_active_at: str | None
    deactivated_at: str | None
    deleted_at: str | None
    external_id: str | None = None
    public_metadata: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = None
    note: str | None = None


class UserList(BaseModel):
    """A page of users, newest first; `next_cursor` leads to the next page."""

    data: list[User]
    next_cursor: str | None


class ReinvitedOrganization(BaseModel):
    """Result for one organization when the user was invited under a new address."""

    organization_id: str
    name: str
    role: str
    state: Literal["invited", "checking", "refused", "kept"]
    detail: str | None = None
    operation: str | None = None


class EmailChangeResult(BaseModel):
    """Result of an email change.

    `requires_invitation`: nothing was changed; `consequences` lists the effects of `POST /v1/users/{user_id}/email`.
    `requires_verification`: a code was sent; send it with `verification` to `POST /v1/users/{user_id}/email/verify`.
    """

    outcome: Literal["changed", "same", "requires_invitation", "requires_verification", "invited"]
    email: str
    requires_invitation: bool
    requires_verification: bool
    verification: str | None = None
    expires_at: str | None = None
    consequences: list[str] = []
    organizations: list[ReinvitedOrganization] = []
    note: str | None = None


def make_user(profile: models.UserProfile, *, note: str | None = None) -> User:
    """Create the response for a user."""
    return User(**_build_user_fields(profile), note=note)


def make_user_list(result: models.UserSearchResult) -> UserList:
    """Create the response for a page of users."""
    return UserList(data=[make_user(profile) for profile in result.rows], next_cursor=result.next_cursor)


def encode_user_list(result: models.UserSearchResult) -> bytes:
    """Encode the same response as JSON without pydantic, several times as fast."""
    data = [_build_user_fields(profile) | {"note": None} for profile in result.rows]
    return _encode({"data": data, "next_cursor": result.next_cursor})


_encode = msgspec.json.Encoder().encode
_PLAIN_FIELDS = ("id", "clerk_id", "email", "is_email_verified", "first_name", "last_name", "username", "image_url")
_TIME_FIELDS = ("joined_at", "last_sign_in_at", "last_active_at", "deactivated_at", "deleted_at")
_METADATA_FIELDS = ("public_metadata", "attributes")


def _build_user_fields(profile: models.UserProfile) -> dict[str, Any]:
    """Return all fields of a `User` except its note."""
    user = profile.user
    fields: dict[str, Any] = {name: getattr(user, name) for name in _PLAIN_FIELDS}
    fields["role"] = profile.role if profile.is_complete else None
    fields["status"] = profile.status
    fields["organizations"] = [_build_organization_fields(membership) for membership in profile.memberships]
    for name in _TIME_FIELDS:
        fields[name] = to_iso(getattr(user, name))
    fields["external_id"] = user.external_id if profile.is_complete else None
    for name in _METADATA_FIELDS:
        fields[name] = object_or_empty(getattr(user, name)) if profile.is_complete else None
    return fields


def _build_organization_fields(membership: models.UserMembership) -> dict[str, str | None]:
    return {
        "organization_id": membership.organization_id,
        "clerk_id": membership.organization_clerk_id,
        "name": membership.name,
        "slug": membership.slug,
        "role": membership.role,
        "status": membership.status if membership.status in PRESENT_STATUSES else "deactivated",
    }


def make_email_change_result(change: models.EmailChange) -> EmailChangeResult:
    """Create the response for an email change."""
    return EmailChangeResult(
        outcome=change.outcome,
        email=change.email,
        requires_invitation=change.outcome == "requires_invitation",
        requires_verification=change.outcome == "requires_verification",
        verification=change.verification,
        expires_at=to_iso(change.expires_at),
        consequences=list(change.consequences),
        organizations=[
            ReinvitedOrganization(
                organization_id=it.organization_id,
                name=it.name,
                role=it.role,
                state=it.state,
                detail=it.detail,
                operation=it.operation_id,
            )
            for it in change.organizations
        ],
        note=change.note,
    )
