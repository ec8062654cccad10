"""The smaller things Clerk keeps: lists, tokens, templates, domains, machines, keys, mail. Plain values, too."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Mail:
    """A letter or text message that Clerk would have sent. What its link leads to is the ticket."""

    id: str
    kind: str = "email"  # email | sms
    slug: str
    to: str
    subject: str
    text: str
    code: str | None = None
    ticket: str | None = None
    user_id: str | None = None
    identification_id: str | None = None
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class ListedIdentifier:
    """An entry of the list of those who may, or may not, sign up."""

    id: str
    identifier: str
    invitation_id: str | None = None
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class RedirectUrl:
    """An address to which native applications may be sent back."""

    id: str
    url: str
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class JwtTemplate:
    """What a token made by this name says."""

    id: str
    name: str
    claims: dict[str, Any]
    lifetime: int = 60
    allowed_clock_skew: int = 5
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class SignInToken:
    """A link that signs one user in, once. With an actor, somebody else acts in the user's name."""

    id: str
    user_id: str
    actor: dict[str, Any] | None = None
    session_seconds: int | None = None
    organization_id: str | None = None
    ticket: str
    status: str = "pending"  # pending | accepted | revoked
    expires_at: int
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class WaitlistEntry:
    """Somebody who waits to be let in."""

    id: str
    email_address: str
    status: str = "pending"  # pending | invited | rejected | completed
    invitation_id: str | None = None
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class OrganizationDomain:
    """A domain of e-mail addresses that belongs to an organization."""

    id: str
    organization_id: str
    name: str
    enrollment_mode: str = "manual_invitation"
    is_verified: bool = True
    verified_at: int | None = None
    affiliation_email_address: str | None = None  # by which a member shows that the domain is theirs
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class OrganizationSuggestion:
    """An organization that a user is told of because of a domain; a request to join, once the user asked."""

    id: str
    user_id: str
    organization_id: str
    domain_id: str
    status: str = "pending"  # pending | accepted: the user asked | completed | revoked: the answer was no
    request_id: str | None = None
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class RoleSet:
    """The roles that the members of some organizations may have."""

    id: str
    key: str
    name: str
    description: str | None = None
    roles: list[str] = field(default_factory=list)  # keys
    default_role: str = "org:member"
    creator_role: str = "org:admin"
    type: str = "custom"  # initial | custom
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class Directory:
    """An identity provider that makes and deactivates users (SCIM)."""

    id: str
    name: str
    enabled: bool = True
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class Machine:
    """A program that authenticates itself to others. `scopes` are those it may talk to, with the time of each."""

    id: str
    name: str
    secret_key: str
    previous_secret_key: str | None = None
    previous_valid_until: int = 0
    default_token_ttl: int = 3600
    scopes: dict[str, int] = field(default_factory=dict)
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class IssuedKey:
    """A key or token that was given out: an API key of a user or organization, or a token of a machine."""

    id: str
    subject: str
    secret: str
    name: str = ""
    description: str | None = None
    claims: Any = None
    scopes: list[str] = field(default_factory=list)
    created_by: str | None = None
    revocation_reason: str | None = None
    is_revoked: bool = False
    expires_at: int | None = None
    last_used_at: int | None = None
    created_at: int
    updated_at: int

    def is_expired(self, now: int) -> bool:
        """Say whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now
