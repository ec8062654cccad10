"""One Clerk instance: its tables, indexes and event publication."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from clerk_emulator.state.auth_attempts import Reverification, SignIn, SignUp
from clerk_emulator.state.clock import Clock
from clerk_emulator.state.ids import IdGenerator
from clerk_emulator.state.models import (
    AccessListEntry,
    Client,
    Directory,
    DomainEvent,
    EmailAddress,
    Invitation,
    IssuedKey,
    JwtTemplate,
    Machine,
    MailMessage,
    Membership,
    Organization,
    OrganizationDomain,
    OrganizationInvitation,
    OrganizationSuggestion,
    Permission,
    PhoneNumber,
    RedirectUrl,
    Role,
    RoleSet,
    Session,
    SignInToken,
    User,
    Verification,
    WaitlistEntry,
)
from clerk_emulator.state.settings import Settings
from clerk_emulator.state.tables import OwnerIndex, Table


class Versioned(Protocol):
    """A record with a version."""

    updated_at: int


class Instance:
    """The state of an instance. The functions of the sibling modules hold its rules and take it as first argument."""

    def __init__(self, *, clock: Clock | None = None, ids: IdGenerator | None = None) -> None:
        self.clock = clock or Clock()
        self.ids = ids or IdGenerator()
        self.settings = Settings()
        self.public_url = ""  # address of the emulator for browsers
        self.id = self.ids.new("ins")
        self.listener: Callable[[DomainEvent], None] = lambda domain_event: None
        self.clear()

    def clear(self) -> None:
        """Delete all data; the instance's own id stays."""
        self.users = Table[User]()
        self.emails: dict[str, EmailAddress] = {}
        self.email_owners: dict[str, str] = {}
        self.phones: dict[str, PhoneNumber] = {}
        self.phone_owners: dict[str, str] = {}
        self.usernames: dict[str, str] = {}
        self.external_ids: dict[str, str] = {}
        self.organizations = Table[Organization]()
        self.slugs: dict[str, str] = {}
        self.memberships = Table[Membership]()
        self.organization_members = OwnerIndex()
        self.user_memberships = OwnerIndex()
        self.membership_of: dict[tuple[str, str], str] = {}
        self.role_counts: Counter[tuple[str, str]] = Counter()
        self.organization_invitations = Table[OrganizationInvitation]()
        self.invitations_of_organization = OwnerIndex()
        self.open_invitations = OwnerIndex()  # by organization, in the order of expiry
        self.invited: dict[tuple[str, str], str] = {}  # organization and address: the newest open invitation
        self.invitations = Table[Invitation]()
        self.tickets: dict[str, str] = {}
        self.sessions = Table[Session]()
        self.user_sessions = OwnerIndex()
        self.clients: dict[str, Client] = {}
        self.client_tokens: dict[str, str] = {}
        self.sign_ins = Table[SignIn]()
        self.sign_ups = Table[SignUp]()
        self.reverifications = Table[Reverification]()
        self.verifications: dict[str, Verification] = {}
        self.roles: dict[str, Role] = {}
        self.permissions: dict[str, Permission] = {}
        self.images: dict[str, tuple[str, str]] = {}  # content type, and the bytes in base64
        self.role_sets = Table[RoleSet]()
        self.organization_domains = Table[OrganizationDomain]()
        self.organization_suggestions = Table[OrganizationSuggestion]()
        self.allowlist = Table[AccessListEntry]()
        self.blocklist = Table[AccessListEntry]()
        self.redirect_urls = Table[RedirectUrl]()
        self.jwt_templates = Table[JwtTemplate]()
        self.sign_in_tokens = Table[SignInToken]()
        self.actor_tokens = Table[SignInToken]()
        self.waitlist = Table[WaitlistEntry]()
        self.directories = Table[Directory]()
        self.machines = Table[Machine]()
        self.machine_tokens = Table[IssuedKey]()
        self.api_keys = Table[IssuedKey]()
        self.mail = Table[MailMessage]()

    @property
    def now(self) -> int:
        """Return the virtual time."""
        return self.clock.now()

    def touch(self, record: Versioned) -> None:
        """Increase the version of a record: the current time, or one more if no time has passed."""
        record.updated_at = max(self.now, record.updated_at + 1)

    def publish(self, type_: str, record: Any) -> None:
        """Publish an event with the record in its current state."""
        self.listener(DomainEvent(type_, record))

    def touch_and_publish(self, type_: str, record: Any) -> None:
        """Increase the version of a record and publish an event."""
        self.touch(record)
        self.publish(type_, record)
