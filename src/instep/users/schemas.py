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
    """An open session, read live from Clerk; `device`, `place` and `ip_address` as far as Clerk tells."""

    id: str
    created_at: str | None
    last_active_at: str | None
    device: str
    place: str
    ip_address: str


class UserSessionList(BaseModel):
    """Somebody's open sessions, the latest activity first."""

    data: list[UserSession]


class EndSessionsRequest(BaseModel):
    """Which session to end; left out: all of them."""

    model_config = ConfigDict(extra="forbid")

    session: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class EndSessionsResult(BaseModel):
    """How many sessions were ended."""

    ended: int


def make_user_session(it: ActiveSession) -> UserSession:
    """A session as the API gives it."""
    return UserSession(
        id=it.id,
        created_at=to_iso(it.created_at),
        last_active_at=to_iso(it.last_active_at),
        device=it.device,
        place=it.place,
        ip_address=it.ip_address,
    )


NameField = Annotated[str | None, Field(max_length=1_000)]
EmailField = Annotated[str, Field(max_length=320, examples=["maya@example.com"])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class UpdateUserRequest(_Strict):
    """What to change. A field that is left out stays; null or an empty text clears a name.

    `public_metadata` and `attributes` are merged in, and a null in them takes a key away; attributes are the
    application's own, and lie in the database alone.
    """

    first_name: NameField = None
    last_name: NameField = None
    username: NameField = None
    email: Annotated[str, Field(max_length=320)] | None = None
    public_metadata: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = None

    def edit(self) -> UserChanges:
        """The same in our words."""
        cleared: dict[str, Any] = {
            name: "" for name in ("first_name", "last_name", "username") if name in self.model_fields_set
        }
        return UserChanges(**(cleared | self.model_dump(exclude_none=True)))


class CreateUserRequest(_Strict):
    """A person to be made; `clerk` false: in the database only."""

    email: EmailField
    first_name: NameField = None
    last_name: NameField = None
    username: NameField = None
    public_metadata: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    clerk: bool = True

    def profile(self) -> UserChanges:
        """The same in our words."""
        return UserChanges(**self.model_dump(exclude_none=True, exclude={"clerk"}))


class ChangeEmailRequest(_Strict):
    """The address that a person shall have."""

    email: EmailField


class VerifyEmailRequest(_Strict):
    """The code that was sent to the new address; `verification` is what the change of address answered."""

    verification: Annotated[str, Field(min_length=1, max_length=100)]
    code: Annotated[SecretStr, Field(min_length=1, max_length=20)]


class SetPasswordRequest(_Strict):
    """A password; Clerk's rules decide whether it is good."""

    password: Annotated[SecretStr, Field(min_length=1, max_length=1_000)]


class UserListQuery(BaseModel):
    """What can be asked of the list. `status` may be repeated; without it all but the deleted come."""

    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[str | None, Field(max_length=200)] = None
    query: Annotated[
        str, Field(max_length=200, pattern=r"^[^\x00]*$", description="Parts of a name or an address; or an id.")
    ] = ""
    status: Annotated[
        list[UserStatus], Field(description=f"Of {', '.join(USER_STATUSES)}; local: no Clerk account.")
    ] = []
    organization: Annotated[str | None, Field(max_length=200, pattern=r"^[^\x00]*$")] = None

    def ask(self) -> UserFilter:
        """The same in our words. Raises Refused."""
        return UserFilter(
            limit=self.limit,
            query=self.query,
            statuses=frozenset(self.status),
            organization=self.organization,
            cursor=decode_cursor(self.cursor) if self.cursor else None,
        )


class DeleteUserQuery(BaseModel):
    """What becomes of the user in Clerk: deleted, only banned, or kept (and signed out)."""

    clerk: ClerkRemoval = "delete"


class UserOrganization(BaseModel):
    """One organization of a person."""

    organization_id: str
    clerk_id: str | None
    name: str
    slug: str | None
    role: str
    status: Literal["active", "banned", "deprovisioned", "deactivated"]


class User(BaseModel):
    """A person. `role` is the application's, from the public metadata; what only instance admins see is left out."""

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
    """People, newest first; `next_cursor` goes on."""

    data: list[User]
    next_cursor: str | None


class ReinvitedOrganization(BaseModel):
    """What became of one organization when the person was invited anew."""

    organization_id: str
    name: str
    role: str
    state: Literal["invited", "checking", "refused", "kept"]
    detail: str | None = None
    operation: str | None = None


class EmailChangeResult(BaseModel):
    """What became of the change of address.

    `requires_invitation`: nothing was changed; `consequences` says what `POST /v1/users/{id}/email` will do.
    `requires_verification`: a code was sent; give it with `verification` to `POST /v1/users/{id}/email/verify`.
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
    """A person as the API gives them."""
    return User(**_user_fields(profile), note=note)


def make_user_list(found: models.UserSearchResult) -> UserList:
    """A page of people as the API gives it."""
    return UserList(data=[make_user(it) for it in found.rows], next_cursor=found.next_cursor)


def encode_user_list(found: models.UserSearchResult) -> bytes:
    """The same as it is sent, several times as fast."""
    people = [_user_fields(it) | {"note": None} for it in found.rows]
    return _encode({"data": people, "next_cursor": found.next_cursor})


_encode = msgspec.json.Encoder().encode
_PLAIN = ("id", "clerk_id", "email", "is_email_verified", "first_name", "last_name", "username", "image_url")
_TIMES = ("joined_at", "last_sign_in_at", "last_active_at", "deactivated_at", "deleted_at")
_METADATA = ("public_metadata", "attributes")


def _user_fields(profile: models.UserProfile) -> dict[str, Any]:
    """All of a `User` but its note."""
    person = profile.person
    known: dict[str, Any] = {name: getattr(person, name) for name in _PLAIN}
    known["role"] = profile.role if profile.is_whole else None
    known["status"] = profile.status
    known["organizations"] = [_make_organization(it) for it in profile.memberships]
    for name in _TIMES:
        known[name] = to_iso(getattr(person, name))
    known["external_id"] = person.external_id if profile.is_whole else None
    for name in _METADATA:
        known[name] = object_or_empty(getattr(person, name)) if profile.is_whole else None
    return known


def _make_organization(it: models.UserMembership) -> dict[str, str | None]:
    return {
        "organization_id": it.organization_id,
        "clerk_id": it.organization_clerk_id,
        "name": it.name,
        "slug": it.slug,
        "role": it.role,
        "status": it.status if it.status in PRESENT_STATUSES else "deactivated",
    }


def make_email_change_result(change: models.EmailChange) -> EmailChangeResult:
    """A change of address as the API gives it."""
    return EmailChangeResult(
        outcome=change.outcome,
        email=change.email,
        requires_invitation=change.outcome == "requires_invitation",
        requires_verification=change.outcome == "requires_verification",
        verification=change.verification,
        expires_at=to_iso(change.expires_at),
        consequences=list(change.consequences),
        organizations=[
            ReinvitedOrganization(**{name: getattr(it, name) for name in it.__struct_fields__})
            for it in change.organizations
        ],
        note=change.note,
    )
