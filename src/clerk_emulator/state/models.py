"""Records that the emulator stores; times are milliseconds, fields are plain values."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class MailMessage:
    """An email or text message that Clerk would have sent; its link contains the ticket."""

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
class AccessListEntry:
    """An entry of the allowlist or blocklist."""

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
    """Claims and lifetime of the tokens created from this template."""

    id: str
    name: str
    claims: dict[str, Any]
    lifetime: int = 60
    allowed_clock_skew: int = 5
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class SignInToken:
    """A one-time link that signs a user in. With an actor, another person acts as the user."""

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
    """A person on the waitlist."""

    id: str
    email_address: str
    status: str = "pending"  # pending | invited | rejected | completed
    invitation_id: str | None = None
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class OrganizationDomain:
    """An email domain that belongs to an organization."""

    id: str
    organization_id: str
    name: str
    enrollment_mode: str = "manual_invitation"
    is_verified: bool = True
    verified_at: int | None = None
    affiliation_email_address: str | None = None  # by which a member verifies the domain
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class OrganizationSuggestion:
    """An organization suggested to a user because of a domain; a membership request once the user accepted."""

    id: str
    user_id: str
    organization_id: str
    domain_id: str
    status: str = (
        "pending"  # pending | accepted: the user requested to join | completed | revoked: the request was rejected
    )
    request_id: str | None = None
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class RoleSet:
    """The roles available to the members of some organizations."""

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
    """An identity provider that creates and deactivates users (SCIM)."""

    id: str
    name: str
    enabled: bool = True
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class Machine:
    """A program that authenticates to others. `scopes` maps machines it may call to the time of the permission."""

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
    """An issued key or token: an API key of a user or organization, or an M2M token."""

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
        """Return whether the key has expired."""
        return self.expires_at is not None and self.expires_at <= now


Metadata = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class EmailAddress:
    """An email address of a user. Only a verified or reserved one is exclusive."""

    id: str
    user_id: str
    email_address: str
    status: str = "verified"  # verified | reserved | unverified
    strategy: str | None = "admin"  # admin | ticket | email_code | scim; None while unverified
    created_at: int
    updated_at: int

    @property
    def is_claimed(self) -> bool:
        """Return whether the address is exclusive to its user."""
        return self.status != "unverified"


@dataclass(slots=True, kw_only=True)
class PhoneNumber:
    """A phone number of a user, in the form +15550100. Only a verified or reserved one is exclusive."""

    id: str
    user_id: str
    phone_number: str
    status: str = "verified"  # verified | reserved | unverified
    strategy: str | None = "admin"  # admin | phone_code; None while unverified
    is_second_factor: bool = False
    created_at: int
    updated_at: int

    @property
    def is_claimed(self) -> bool:
        """Return whether the number is exclusive to its user."""
        return self.status != "unverified"


@dataclass(slots=True, kw_only=True)
class User:
    """A person."""

    id: str
    external_id: str | None = None
    username: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    locale: str | None = None
    email_addresses: list[EmailAddress] = field(default_factory=list)
    primary_email_address_id: str | None = None
    phone_numbers: list[PhoneNumber] = field(default_factory=list)
    primary_phone_number_id: str | None = None
    image_url: str = ""
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)
    unsafe_metadata: Metadata = field(default_factory=dict)
    password: str | None = None  # result of passwords.hash_password() or import_digest()
    password_last_updated_at: int | None = None
    is_password_compromised: bool = False
    banned: bool = False
    deprovisioned: bool = False  # deactivated by the directory
    directory_id: str | None = None  # the directory that created or took over this user
    directory_user_id: str | None = None  # the id of the user in that directory
    lockout_ends_at: int | None = None
    failed_attempts: int = 0  # failed sign-ins since the last successful one
    delete_self_enabled: bool = True
    create_organization_enabled: bool = True
    create_organizations_limit: int | None = None
    bypass_client_trust: bool = False
    legal_accepted_at: int | None = None
    last_sign_in_at: int | None = None
    last_active_at: int | None = None
    created_at: int
    updated_at: int

    @property
    def primary_email(self) -> EmailAddress | None:
        """Return the primary address, if there is one."""
        wanted = self.primary_email_address_id
        return next((email for email in self.email_addresses if email.id == wanted), None)

    @property
    def identifier(self) -> str:
        """Return the name by which people know the user: address, username or number."""
        primary = self.primary_email
        if primary is not None:
            return primary.email_address
        return self.username or next((phone.phone_number for phone in self.phone_numbers), "")

    def is_locked(self, now: int) -> bool:
        """Return whether signing in is locked."""
        return self.lockout_ends_at is not None and self.lockout_ends_at > now


@dataclass(slots=True, kw_only=True)
class Permission:
    """A permission of a role."""

    id: str
    key: str
    name: str
    description: str = ""
    type: str = "custom"  # system | custom
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class Role:
    """A named set of permissions within an organization."""

    id: str
    key: str
    name: str
    description: str | None = None
    permissions: list[str] = field(default_factory=list)  # keys
    is_creator_eligible: bool = False
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class Organization:
    """A group of users."""

    id: str
    name: str
    slug: str
    max_allowed_memberships: int
    admin_delete_enabled: bool = True
    created_by: str | None = None
    role_set: str | None = None  # the key of a role set; None: the initial one
    image_url: str = ""
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class Membership:
    """A user's membership in an organization. Joining again creates another membership with another id."""

    id: str
    organization_id: str
    user_id: str
    role: str
    directory_id: str | None = None  # the directory whose groups assigned the role
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class OrganizationInvitation:
    """An invitation to join an organization. Expiry is never stored: it follows from the clock."""

    id: str
    organization_id: str
    email_address: str
    role: str
    ticket: str
    inviter_id: str | None = None
    settled: str | None = None  # accepted | revoked, or None
    user_id: str | None = None
    redirect_url: str | None = None
    domain_id: str | None = None  # the domain that created it; Clerk omits those from its lists
    public_metadata: Metadata = field(default_factory=dict)
    private_metadata: Metadata = field(default_factory=dict)
    expires_at: int
    created_at: int
    updated_at: int

    def status(self, now: int) -> str:
        """Return accepted, revoked, expired or pending."""
        return self.settled or ("expired" if self.expires_at <= now else "pending")

    @property
    def expiry_key(self) -> tuple[int, int, str]:
        """Return the sort key among the open invitations of the organization."""
        return (self.expires_at, 0, self.id)


@dataclass(slots=True, kw_only=True)
class Invitation:
    """An invitation to sign up to the application."""

    id: str
    email_address: str
    ticket: str
    settled: str | None = None  # accepted | revoked, or None
    user_id: str | None = None
    redirect_url: str | None = None
    public_metadata: Metadata = field(default_factory=dict)
    expires_at: int
    created_at: int
    updated_at: int

    def status(self, now: int) -> str:
        """Return accepted, revoked, expired or pending."""
        return self.settled or ("expired" if self.expires_at <= now else "pending")


@dataclass(slots=True, kw_only=True)
class Session:
    """A signed-in user in one browser."""

    id: str
    user_id: str
    client_id: str
    settled: str | None = None  # revoked | ended | removed | replaced, or None
    last_active_organization_id: str | None = None
    origin: str | None = None  # of the application that this session was last handed over to
    actor: dict[str, Any] | None = None  # the person acting as the user
    refresh_token: str | None = None  # value of the cookie __refresh, since the first handshake
    factor_verified_at: int
    second_factor_verified_at: int | None = None
    reverification_id: str | None = None  # the current or last attempt in it
    last_active_at: int
    expire_at: int
    abandon_at: int
    created_at: int
    updated_at: int

    def status(self, now: int) -> str:
        """Return the reason why the session ended, or `active`."""
        if self.settled:
            return self.settled
        if self.expire_at <= now:
            return "expired"
        return "abandoned" if self.abandon_at <= now else "active"


@dataclass(slots=True, kw_only=True)
class Client:
    """A browser. Its token is the value of the client cookie."""

    id: str
    token: str
    session_ids: list[str] = field(default_factory=list)
    active_session_id: str | None = None
    sign_in_id: str | None = None  # the current attempt, until it is complete
    sign_up_id: str | None = None
    last_strategy: str | None = None  # the strategy of the last sign-in
    changed_at_wall: int = 0  # seconds; value of __client_uat while a user is signed in
    created_at: int
    updated_at: int


@dataclass(slots=True, kw_only=True)
class Verification:
    """A code sent to an address or a number."""

    id: str
    identification_id: str
    strategy: str = "email_code"  # email_code | phone_code | reset_password_email_code
    code: str
    status: str = "unverified"  # unverified | verified | failed | expired
    attempts: int = 0
    expire_at: int


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """An event that Clerk publishes: its type and the record at that moment."""

    type: str
    record: Any
