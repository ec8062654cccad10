"""Principals and their access to an organization; pure."""

from typing import Any, Literal

from msgspec import Struct

from instep.domain.emails import canonicalize_email
from instep.domain.roles import UNKNOWN_ROLES, RoleCatalog, make_local_roles


class AuthUserRow(Struct, frozen=True, kw_only=True):
    """The columns of a user's row that decide about access."""

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
        """Return whether access is denied, even if Clerk still has an active session."""
        is_deleted = self.deleted_at is not None or self.gone_at is not None
        return not self.is_active or self.is_banned or self.is_deprovisioned or is_deleted

    @property
    def name(self) -> str:
        """Display name; empty if nothing is known."""
        full_name = " ".join(part for part in (self.first_name, self.last_name) if part)
        return full_name or self.username or self.email or ""


def is_instance_admin(user: AuthUserRow, clerk_user_id: str, admins: frozenset[str]) -> bool:
    """Return whether a user is an instance admin, denied or not; see `resolve_principal`."""
    is_named = grants_instance_admin(user.public_metadata)
    is_known_address = bool(user.email) and user.is_email_verified and canonicalize_email(user.email) in admins
    return is_named or clerk_user_id in admins or is_known_address


class Principal(Struct, frozen=True, kw_only=True):
    """The sender of a request: a person signed in through Clerk, an API key, or the break-glass key.

    `is_instance_admin` may read and change every organization. `user_id` is None for a user not in the mirror yet.
    `actor` is the impersonating user, if any: instep's id, or Clerk's for one who is not in the mirror; `actor_name`
    their name. `scopes` are those of a key (None: unlimited), `bound_organization_id` the only organization of a key.
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
    bound_organization_id: str | None = None

    @property
    def id(self) -> str:
        """Identifier for records: instep's user id, Clerk's for a user not in the mirror, or the key's id."""
        return self.user_id or self.clerk_user_id or self.key_id or self.kind

    def has_scope(self, scope: str) -> bool:
        """Return whether the key has `scope` (read or write); persons have all scopes."""
        return self.scopes is None or scope in self.scopes

    def allows_method(self, method: str) -> bool:
        """Return whether the key's scopes allow a page request with this method (GET, POST, ...)."""
        return self.has_scope("read" if method in ("GET", "HEAD") else "write")


class DeniedPrincipal(Struct, frozen=True):
    """A user known to Clerk whose access is denied: deactivated, banned, deprovisioned or deleted.

    `principal` has no rights. `is_deactivated`: they were deactivated here and can be reactivated.
    """

    principal: Principal
    is_deactivated: bool = False


AuthenticationResult = Principal | DeniedPrincipal | None
BREAK_GLASS_PRINCIPAL = Principal(kind="break_glass", name="Break-glass key", is_instance_admin=True)


class AdminContact(Struct, frozen=True):
    """An organization's admin to contact."""

    name: str
    email: str | None


class DeactivationNotice(Struct, frozen=True, kw_only=True):
    """Information for a deactivated person only: the organization, and admins who can reactivate them.

    `organization_name` is empty if the whole account is deactivated.
    """

    organization_name: str
    contacts: tuple[AdminContact, ...] = ()

    @property
    def contact_list(self) -> str:
        """Names and addresses of the admins, separated by commas; empty if there are none."""
        return ", ".join(
            f"{contact.name} ({contact.email})" if contact.email else contact.name for contact in self.contacts
        )


class OrganizationAccess(Struct, frozen=True, kw_only=True):
    """Rights of a principal in one organization that they may see."""

    principal: Principal
    organization_id: str
    organization_clerk_id: str | None
    organization_name: str
    organization_slug: str | None
    role: str | None
    instance_roles: RoleCatalog = UNKNOWN_ROLES

    @property
    def roles(self) -> RoleCatalog:
        """Roles of the organization: the instance's, or instep's own if Clerk does not know it."""
        return self.instance_roles if self.organization_clerk_id is not None else make_local_roles(self.instance_roles)

    @property
    def can_manage(self) -> bool:
        """Return whether the principal may change members here; otherwise they may only read."""
        has_all = self.principal.is_instance_admin or self.principal.bound_organization_id is not None
        return self.principal.has_scope("write") and (has_all or self.roles.is_admin(self.role))

    @property
    def rank(self) -> int:
        """Rank of the principal here, instance admins highest; see RoleCatalog.rank."""
        if self.principal.is_instance_admin:
            return 3
        return 2 if self.principal.bound_organization_id is not None else self.roles.rank(self.role)


def resolve_principal(
    user: AuthUserRow | None, clerk_user_id: str, admins: frozenset[str], *, actor: str | None = None
) -> Principal | DeniedPrincipal:
    """Return the principal of a Clerk user. `admins`: Clerk ids and lower-case addresses from the settings.

    Instance admins are those with the public metadata `"role": "admin"` (only the application's server can write it)
    and those in `admins`. An address counts only if it is verified, because anyone can claim an unverified one.
    """
    if user is None:
        is_admin = clerk_user_id in admins
        return Principal(
            kind="person", name=clerk_user_id, clerk_user_id=clerk_user_id, is_instance_admin=is_admin, actor=actor
        )
    principal = Principal(
        kind="person",
        name=user.name or clerk_user_id,
        email=user.email,
        image_url=user.image_url,
        user_id=user.id,
        clerk_user_id=clerk_user_id,
        is_instance_admin=not user.is_denied and is_instance_admin(user, clerk_user_id, admins),
        actor=actor,
    )
    is_banned_or_deleted = (
        user.is_banned or user.is_deprovisioned or user.deleted_at is not None or user.gone_at is not None
    )
    is_deactivated = not user.is_active and not is_banned_or_deleted
    return DeniedPrincipal(principal, is_deactivated=is_deactivated) if user.is_denied else principal


def grants_instance_admin(public_metadata: Any) -> bool:
    """Return whether public metadata, any JSON, make their owner an instance admin."""
    return isinstance(public_metadata, dict) and public_metadata.get("role") == "admin"
