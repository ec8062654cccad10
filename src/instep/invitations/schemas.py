"""REST schemas of invitations."""

from typing import Annotated, Any, Literal

from fastapi import Header
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from instep.domain.roles import RoleCatalog
from instep.invitations.bulk_service import MAX_INVITEES, parse_invitees
from instep.invitations.models import DEFAULT_EXPIRY_DAYS, MAX_EXPIRY_DAYS, InviteeInput
from instep.invitations.policies import MAX_NAME_LENGTH, validate_role

EmailAddress = Annotated[str, Field(min_length=3, max_length=320, examples=["maya@example.com"])]
RoleKey = Annotated[str, Field(min_length=1, max_length=200)]
InviteeName = Annotated[str | None, Field(max_length=MAX_NAME_LENGTH)]
ExpiryDays = Annotated[int, Field(ge=1, le=MAX_EXPIRY_DAYS)]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


class InvitationCreate(BaseModel):
    """One address and the role it is invited to (none: the instance's default one).

    `notify` false: only make the link, send no mail.
    """

    model_config = ConfigDict(extra="forbid")

    email: EmailAddress
    role: RoleKey | None = None
    name: InviteeName = None
    expires_in_days: ExpiryDays = DEFAULT_EXPIRY_DAYS
    notify: bool = True


class Invitee(BaseModel):
    """One of many."""

    model_config = ConfigDict(extra="forbid")

    email: Annotated[str, Field(max_length=320)]
    role: RoleKey | None = None
    name: InviteeName = None


class InviteeList(BaseModel):
    """Many people: `invitations`, or `text` (addresses separated by space, comma, semicolon or line; or CSV with the
    columns email, role, name). `role` is for those who have none of their own."""

    model_config = ConfigDict(extra="forbid")

    invitations: Annotated[list[Invitee] | None, Field(min_length=1, max_length=MAX_INVITEES)] = None
    text: Annotated[str | None, Field(max_length=200_000)] = None
    role: RoleKey | None = None

    def wishes(self, roles: RoleCatalog) -> list[InviteeInput]:
        """The people, in the order of the list. Raises InvitationRefusedError."""
        role = validate_role(roles, self.role)
        if self.invitations is None:
            return parse_invitees(self.text or "", role=role, roles=roles)
        return [InviteeInput(email=it.email, role=it.role or role, name=it.name) for it in self.invitations]


class BulkInvitationCreate(InviteeList):
    """Many people who are to be invited."""

    expires_in_days: ExpiryDays = DEFAULT_EXPIRY_DAYS
    notify: bool = True


class InvitationResendOptions(BaseModel):
    """How to send again. `notify` false: only make the new link."""

    model_config = ConfigDict(extra="forbid")

    notify: bool = True


class Invitation(BaseModel):
    """An invitation as Clerk made it."""

    id: str
    email: str
    role: str
    status: Literal["pending", "accepted", "revoked", "expired"]
    created_at: str | None
    expires_at: str | None


class InvitationLink(BaseModel):
    """The secret address by which an invitation is accepted. Whoever has it can join."""

    url: str


class InvitationPreviewRow(BaseModel):
    """What would become of one."""

    email: str
    role: str
    name: str | None
    verdict: Literal["new", "former", "member", "invited", "invalid", "duplicate", "over_seats"]
    note: str


class InvitationPreview(BaseModel):
    """What a list would do. `refusal` says why it can't be sent now, where it can't."""

    lines: list[InvitationPreviewRow]
    sent: int
    seats: int | None
    seats_used: int
    refusal: str | None


class InvitationBatchRow(BaseModel):
    """What became of one row."""

    email: str
    role: str
    name: str | None
    status: Literal["queued", "sent", "refused", "skipped"]
    invitation_id: str | None
    code: str | None
    reason: str | None


class InvitationBatch(BaseModel):
    """Many invitations, and how far they are: `done` of `total`."""

    id: str
    organization_id: str
    state: Literal["queued", "done"]
    asked_at: str | None
    total: int
    done: int
    sent: int
    rows: list[InvitationBatchRow]


class InvitationTimelineEvent(BaseModel):
    """One thing that happened. `actor` is who did it, where it was done here."""

    at: str | None
    what: Literal[
        "asked", "sent", "link_copied", "resent", "lost", "revoked", "expired", "accepted", "member_made", "first_seen"
    ]
    actor: str | None
    actor_name: str | None
    invitation_id: str | None
    previous_invitation_id: str | None


class InvitationTimeline(BaseModel):
    """The story of an invitation across its resends, oldest first."""

    email: str
    events: list[InvitationTimelineEvent]


def _get_body_kind(body: Any) -> str:
    names = body if isinstance(body, dict) else vars(body) if isinstance(body, BaseModel) else {}
    return "many" if "invitations" in names or "text" in names else "one"


InvitationBody = Annotated[
    Annotated[InvitationCreate, Tag("one")] | Annotated[BulkInvitationCreate, Tag("many")],
    Discriminator(_get_body_kind),
]
InvitationStatus = Literal["pending", "accepted", "revoked", "expired"]


class ApplicationInvitationCreate(BaseModel):
    """Someone who is to be invited to the application.

    Without `organization`, `role` is theirs in the application (`admin`: of this installation); with it, a local
    organization's id or slug, they become a member there, with this role, when they sign up.
    """

    model_config = ConfigDict(extra="forbid")

    email: Annotated[str, Field(min_length=3, max_length=320, examples=["maya@example.com"])]
    role: Annotated[str, Field(min_length=1, max_length=64)] = "member"
    organization: Annotated[str | None, Field(max_length=200)] = None
    expires_in_days: Annotated[int, Field(ge=1, le=MAX_EXPIRY_DAYS)] = DEFAULT_EXPIRY_DAYS
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
    """The newest invitations to the application."""

    data: list[ApplicationInvitation]
