"""Principals and their access to an organization; pure."""

from typing import Any, Literal

from msgspec import Struct

from instep.domain.emails import canonicalize_email
from instep.domain.roles import UNKNOWN_ROLES, RoleCatalog, make_local_roles


class AuthUserRow(Struct, frozen=True, kw_only=True):
    """A person's row in the mirror, as far as it decides who they are."""

    id: str
    email: str | None
    is_email_verified: bool
    first_name: str | None
    last_name: str | None
    username: str | None
    image_url: str | None
    public_metadata: Any
    is_active: bool
    is_banned: bool
    deleted_at: int | None
    gone_at: int | None
    is_deprovisioned: bool = False

    @property
    def is_denied(self) -> bool:
        """Whether they may not come in, although Clerk may still say that they are signed in."""
        is_deleted = self.deleted_at is not None or self.gone_at is not None
        return not self.is_active or self.is_banned or self.is_deprovisioned or is_deleted

    @property
    def name(self) -> str:
        """What to call them; empty where nothing is known."""
        whole = " ".join(part for part in (self.first_name, self.last_name) if part)
        return whole or self.username or self.email or ""


def is_instance_admin(person: AuthUserRow, clerk_user_id: str, admins: frozenset[str]) -> bool:
    """Whether a person is an instance admin, barred or not; see decide_principal."""
    is_named = grants_instance_admin(person.public_metadata)
    is_known_address = bool(person.email) and person.is_email_verified and canonicalize_email(person.email) in admins
    return is_named or clerk_user_id in admins or is_known_address


class Principal(Struct, frozen=True, kw_only=True):
    """Who a request comes from: a person signed in through Clerk, a program with a key, or the break-glass key.

    `is_instance_admin` may see and change every organization. `user_id` is None for someone the mirror does not know
    yet. `actor` is who acts as this person, where Clerk says that someone does (impersonation): instep's id, or Clerk's
    of one who is not in the mirror; `actor_name` what to call them. `scopes` is what a key is good for (None:
    everything that its holder may), `only` the one organization that it is for.
    """

    kind: Literal["person", "break_glass", "api_key"]
    name: str
    email: str | None = None
    image_url: str | None = None
    user_id: str | None = None
    clerk_user_id: str | None = None
    is_instance_admin: bool = False
    actor: str | None = None
    actor_name: str | None = None
    key_id: str | None = None
    scopes: frozenset[str] | None = None
    only: str | None = None

    @property
    def id(self) -> str:
        """Who this is, for the record: instep's id, Clerk's where the mirror does not know them yet, or the key."""
        return self.user_id or self.clerk_user_id or self.key_id or self.kind

    def has_scope(self, scope: str) -> bool:
        """Whether this request's key is good for `scope` (read or write); people have no such limit."""
        return self.scopes is None or scope in self.scopes

    def allows_method(self, method: str) -> bool:
        """Whether this request's key is good for a request of this method (GET, POST, ...) to a page."""
        return self.has_scope("read" if method in ("GET", "HEAD") else "write")


class DeniedPrincipal(Struct, frozen=True):
    """Someone whom Clerk knows and who may not come in: deactivated, banned, deprovisioned or deleted.

    `principal` may do nothing. `is_paused`: they were deactivated here, and can be reactivated.
    """

    principal: Principal
    is_paused: bool = False


AuthenticationResult = Principal | DeniedPrincipal | None
BREAK_GLASS_PRINCIPAL = Principal(kind="break_glass", name="Break-glass key", is_instance_admin=True)


class AdminContact(Struct, frozen=True):
    """Somebody to ask: an admin of an organization."""

    name: str
    email: str | None


class DeactivationNotice(Struct, frozen=True, kw_only=True):
    """What a deactivated person is told, and nobody else: where, and who can let them in again.

    `organization_name` is empty where their whole account is deactivated.
    """

    organization_name: str
    contacts: tuple[AdminContact, ...] = ()

    @property
    def whom(self) -> str:
        """Return whom to ask, as a list of names and addresses; empty where there is nobody."""
        return ", ".join(f"{it.name} ({it.email})" if it.email else it.name for it in self.contacts)


class OrganizationAccess(Struct, frozen=True, kw_only=True):
    """What a principal may do in one organization they may see."""

    principal: Principal
    organization_id: str
    organization_clerk_id: str | None
    organization_name: str
    organization_slug: str | None
    role: str | None
    instance_roles: RoleCatalog = UNKNOWN_ROLES

    @property
    def roles(self) -> RoleCatalog:
        """The roles that there are in it: the instance's, or instep's own where Clerk does not know it."""
        return self.instance_roles if self.organization_clerk_id is not None else make_local_roles(self.instance_roles)

    @property
    def can_manage(self) -> bool:
        """Whether they may change people here; otherwise they only read."""
        has_all = self.principal.is_instance_admin or self.principal.only is not None
        return self.principal.has_scope("write") and (has_all or self.roles.is_admin(self.role))

    @property
    def rank(self) -> int:
        """How high whoever asks is here: instance admins above all; see Roles.rank."""
        if self.principal.is_instance_admin:
            return 3
        return 2 if self.principal.only is not None else self.roles.rank(self.role)


def resolve_principal(
    person: AuthUserRow | None, clerk_user_id: str, admins: frozenset[str], *, actor: str | None = None
) -> Principal | DeniedPrincipal:
    """Who a user of Clerk is here. `admins` are Clerk ids and addresses (lower case) that the settings name.

    An instance admin is one whose public metadata say `"role": "admin"` (only the application's own server can write
    them), or one of `admins`. An address counts only when it is verified: anyone can claim one that is not.
    """
    if person is None:
        is_admin = clerk_user_id in admins
        return Principal(
            kind="person", name=clerk_user_id, clerk_user_id=clerk_user_id, is_instance_admin=is_admin, actor=actor
        )
    principal = Principal(
        kind="person",
        name=person.name or clerk_user_id,
        email=person.email,
        image_url=person.image_url,
        user_id=person.id,
        clerk_user_id=clerk_user_id,
        is_instance_admin=not person.is_denied and is_instance_admin(person, clerk_user_id, admins),
        actor=actor,
    )
    is_out = person.is_banned or person.is_deprovisioned or person.deleted_at is not None or person.gone_at is not None
    is_paused = not person.is_active and not is_out
    return DeniedPrincipal(principal, is_paused=is_paused) if person.is_denied else principal


def grants_instance_admin(public_metadata: Any) -> bool:
    """Return whether public metadata make their owner an instance admin. Any JSON; only an object can."""
    return isinstance(public_metadata, dict) and public_metadata.get("role") == "admin"
