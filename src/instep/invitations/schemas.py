"""REST schemas of invitations."""

from typing import Annotated, Any, Literal

from fastapi import Header
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from instep.invitations.bulk_service import MAX_INVITEES, MAX_TEXT_LENGTH
from instep.invitations.models import DEFAULT_EXPIRY_DAYS, MAX_EXPIRY_DAYS
from instep.invitations.policies import MAX_NAME_LENGTH

EmailAddress = Annotated[str, Field(min_length=3, max_length=320, examples=["maya@example.com"])]
RoleKey = Annotated[str, Field(min_length=1, max_length=200)]
InviteeName = Annotated[str | None, Field(max_length=MAX_NAME_LENGTH)]
ExpiryDays = Annotated[int, Field(ge=1, le=MAX_EXPIRY_DAYS)]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


class InvitationCreate(BaseModel):
    """A person to invite. Without `role` they get the default role.

    `notify` false: only create the link, send no email.
    """

    model_config = ConfigDict(extra="forbid")

    email: EmailAddress
    role: RoleKey | None = None
    name: InviteeName = None
    expires_in_days: ExpiryDays = DEFAULT_EXPIRY_DAYS
    notify: bool = True


class Invitee(BaseModel):
    """A person in a list."""

    model_config = ConfigDict(extra="forbid")

    email: Annotated[str, Field(max_length=320)]
    role: RoleKey | None = None
    name: InviteeName = None


class InviteeList(BaseModel):
    """A list of people: `invitations`, or `text`.

    The text is addresses separated by spaces, commas, semicolons or lines, or CSV with the columns email, role, name.
    `role` is for people without a role of their own.
    """

    model_config = ConfigDict(extra="forbid")

    invitations: Annotated[list[Invitee] | None, Field(min_length=1, max_length=MAX_INVITEES)] = None
    text: Annotated[str | None, Field(max_length=MAX_TEXT_LENGTH)] = None
    role: RoleKey | None = None


class BulkInvitationCreate(InviteeList):
    """A list of people to invite."""

    expires_in_days: ExpiryDays = DEFAULT_EXPIRY_DAYS
    notify: bool = True


class InvitationResendOptions(BaseModel):
    """Options of resending. `notify` false: only create the new link, send no email."""

    model_config = ConfigDict(extra="forbid")

    notify: bool = True


class Invitation(BaseModel):
    """An invitation to an organization."""

    id: str
    email: str
    role: str
    status: Literal["pending", "accepted", "revoked", "expired"]
    created_at: str | None
    expires_at: str | None


class InvitationLink(BaseModel):
    """The secret link that accepts an invitation. Anyone who has it can join."""

    url: str


class InvitationPreviewRow(BaseModel):
    """Decision about one person of a list, with an explanation in `note`."""

    email: str
    role: str
    name: str | None
    verdict: Literal["new", "former", "member", "invited", "invalid", "duplicate", "over_seats"]
    note: str


class InvitationPreview(BaseModel):
    """Preview of a list. `refusal` is the reason why it cannot be sent now, if any."""

    lines: list[InvitationPreviewRow]
    sent: int
    seats: int | None
    seats_used: int
    refusal: str | None


class InvitationBatchRow(BaseModel):
    """Result of one row. `code` and `reason` explain `refused` and `skipped`."""

    email: str
    role: str
    name: str | None
    status: Literal["queued", "sent", "refused", "skipped"]
    invitation_id: str | None
    code: str | None
    reason: str | None


class InvitationBatch(BaseModel):
    """A batch of invitations and its progress: `done` of `total` rows."""

    id: str
    organization_id: str
    state: Literal["queued", "done"]
    asked_at: str | None
    total: int
    done: int
    sent: int
    rows: list[InvitationBatchRow]


class InvitationTimelineEvent(BaseModel):
    """An event in the history of an invitation. `actor` is null for changes made outside of instep."""

    at: str | None
    what: Literal[
        "asked", "sent", "link_copied", "resent", "lost", "revoked", "expired", "accepted", "member_made", "first_seen"
    ]
    actor: str | None
    actor_name: str | None
    invitation_id: str | None
    previous_invitation_id: str | None


class InvitationTimeline(BaseModel):
    """History of an invitation across its resends, oldest event first."""

    email: str
    events: list[InvitationTimelineEvent]


def _get_body_kind(body: Any) -> str:
    """Return `many` for a body with a list of people, else `one`."""
    names = body if isinstance(body, dict) else vars(body) if isinstance(body, BaseModel) else {}
    return "many" if "invitations" in names or "text" in names else "one"


InvitationBody = Annotated[
    Annotated[InvitationCreate, Tag("one")] | Annotated[BulkInvitationCreate, Tag("many")],
    Discriminator(_get_body_kind),
]
InvitationStatus = Literal["pending", "accepted", "revoked", "expired"]


class ApplicationInvitationCreate(BaseModel):
    """A person to invite to the application.

    Without `organization`, `role` is a role of the application (`admin`: an instance admin). With the id or slug of a
    local organization, the person becomes a member there, with this role, when they sign up.
    """

    model_config = ConfigDict(extra="forbid")

    email: EmailAddress
    role: Annotated[str, Field(min_length=1, max_length=64)] = "member"
    organization: Annotated[str | None, Field(max_length=200)] = None
    expires_in_days: ExpiryDays = DEFAULT_EXPIRY_DAYS
    notify: bool = True


class ApplicationInvitation(BaseModel):
    """An invitation to the application."""

    id: str
    email: str
    status: InvitationStatus
    role: str | None
    organization_id: str | None
    created_at: str | None
    expires_at: str | None


class ApplicationInvitationList(BaseModel):
    """Invitations to the application, newest first."""

    data: list[ApplicationInvitation]
