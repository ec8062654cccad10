"""What the API takes and gives: people, edits, changes of address."""

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from instep.identity.model import PRESENT
from instep.kit.bounds import as_object
from instep.kit.clock import to_iso
from instep.profiles import profile
from instep.profiles.profile import STATUSES, Ask, Status, decode_cursor
from instep.profiles.rules import Edit, Removal

Name = Annotated[str | None, Field(max_length=1_000)]
Email = Annotated[str, Field(max_length=320, examples=["maya@example.com"])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProfileEdit(_Strict):
    """What to change. A field that is left out stays; null or an empty text clears a name.

    `public_metadata` and `attributes` are merged in, and a null in them takes a key away; attributes are the
    application's own, and lie in the database alone.
    """

    first_name: Name = None
    last_name: Name = None
    username: Name = None
    email: Annotated[str, Field(max_length=320)] | None = None
    public_metadata: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = None

    def edit(self) -> Edit:
        """The same in our words."""
        cleared: dict[str, Any] = {
            name: "" for name in ("first_name", "last_name", "username") if name in self.model_fields_set
        }
        return Edit(**(cleared | self.model_dump(exclude_none=True)))


class NewUser(_Strict):
    """A person to be made; `clerk` false: in the database only."""

    email: Email
    first_name: Name = None
    last_name: Name = None
    username: Name = None
    public_metadata: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    clerk: bool = True

    def profile(self) -> Edit:
        """The same in our words."""
        return Edit(**self.model_dump(exclude_none=True, exclude={"clerk"}))


class NewEmail(_Strict):
    """The address that a person shall have."""

    email: Email


class EmailCode(_Strict):
    """The code that was sent to the new address; `verification` is what the change of address answered."""

    verification: Annotated[str, Field(min_length=1, max_length=100)]
    code: Annotated[SecretStr, Field(min_length=1, max_length=20)]


class NewPassword(_Strict):
    """A password; Clerk's rules decide whether it is good."""

    password: Annotated[SecretStr, Field(min_length=1, max_length=1_000)]


class UserQuery(BaseModel):
    """What can be asked of the list. `status` may be repeated; without it all but the deleted come."""

    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[str | None, Field(max_length=200)] = None
    query: Annotated[
        str, Field(max_length=200, pattern=r"^[^\x00]*$", description="Parts of a name or an address; or an id.")
    ] = ""
    status: Annotated[list[Status], Field(description=f"Of {', '.join(STATUSES)}; local: no Clerk account.")] = []
    organization: Annotated[str | None, Field(max_length=200, pattern=r"^[^\x00]*$")] = None

    def ask(self) -> Ask:
        """The same in our words. Raises Refused."""
        return Ask(
            limit=self.limit,
            query=self.query,
            statuses=frozenset(self.status),
            organization=self.organization,
            cursor=decode_cursor(self.cursor) if self.cursor else None,
        )


class RemovalQuery(BaseModel):
    """What becomes of the user in Clerk: deleted, only banned, or kept (and signed out)."""

    clerk: Removal = "delete"


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
    status: Status
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


class UserPage(BaseModel):
    """People, newest first; `next_cursor` goes on."""

    data: list[User]
    next_cursor: str | None


class MovedOrganization(BaseModel):
    """What became of one organization when the person was invited anew."""

    organization_id: str
    name: str
    role: str
    state: Literal["invited", "checking", "refused", "kept"]
    detail: str | None = None
    operation: str | None = None


class EmailAnswer(BaseModel):
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
    organizations: list[MovedOrganization] = []
    note: str | None = None


def user_of(profile: profile.Profile, *, note: str | None = None) -> User:
    """A person as the API gives them."""
    return User(**_fields(profile), note=note)


def page_of(found: profile.Users) -> UserPage:
    """A page of people as the API gives it."""
    return UserPage(data=[user_of(it) for it in found.rows], next_cursor=found.next_cursor)


def as_bytes(found: profile.Users) -> bytes:
    """The same as it is sent, several times as fast."""
    people = [_fields(it) | {"note": None} for it in found.rows]
    return _encode({"data": people, "next_cursor": found.next_cursor})


_encode = msgspec.json.Encoder().encode
_PLAIN = ("id", "clerk_id", "email", "is_email_verified", "first_name", "last_name", "username", "image_url")
_TIMES = ("joined_at", "last_sign_in_at", "last_active_at", "deactivated_at", "deleted_at")
_METADATA = ("public_metadata", "attributes")


def _fields(profile: profile.Profile) -> dict[str, Any]:
    """All of a `User` but its note."""
    person = profile.person
    known: dict[str, Any] = {name: getattr(person, name) for name in _PLAIN}
    known["role"] = profile.role if profile.is_whole else None
    known["status"] = profile.status
    known["organizations"] = [_organization_of(it) for it in profile.belongings]
    for name in _TIMES:
        known[name] = to_iso(getattr(person, name))
    known["external_id"] = person.external_id if profile.is_whole else None
    for name in _METADATA:
        known[name] = as_object(getattr(person, name)) if profile.is_whole else None
    return known


def _organization_of(it: profile.Belonging) -> dict[str, str | None]:
    return {
        "organization_id": it.organization_id,
        "clerk_id": it.organization_clerk_id,
        "name": it.name,
        "slug": it.slug,
        "role": it.role,
        "status": it.status if it.status in PRESENT else "deactivated",
    }


def email_answer_of(change: profile.EmailChange) -> EmailAnswer:
    """A change of address as the API gives it."""
    return EmailAnswer(
        outcome=change.outcome,
        email=change.email,
        requires_invitation=change.outcome == "requires_invitation",
        requires_verification=change.outcome == "requires_verification",
        verification=change.verification,
        expires_at=to_iso(change.expires_at),
        consequences=list(change.consequences),
        organizations=[
            MovedOrganization(**{name: getattr(it, name) for name in it.__struct_fields__})
            for it in change.organizations
        ],
        note=change.note,
    )
