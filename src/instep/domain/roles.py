"""Organization roles: which are admin roles and which one is the default."""

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from instep.core.i18n import lazy_gettext
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE

ADMIN_ROLES_OPTION = "instep_admin_roles"
"""Execution option of database connections with the roles of INSTEP_ADMIN_ROLES (a frozenset)."""

MANAGE_MEMBERS_PERMISSION = "org:sys_memberships:manage"
"""The system permission that makes a role an admin role; it cannot be renamed or deleted in Clerk."""

FALLBACK_ADMIN_ROLES = frozenset({ADMIN_ROLE, "admin"})
"""Admin roles until the instance's roles are read: Clerk's default admin role, now and before 2024."""

FIELD_SEPARATOR, RECORD_SEPARATOR = "\x1f", "\x1e"
"""Separators of roles packed into one text.

The fields are a key, a name, and flags (a: admin, d: default, l: was in a list).
"""

_MEMBER_ROLE_KEYS = (MEMBER_ROLE, "member", "basic_member")
DEFAULT_ROLE_NAMES = {
    ADMIN_ROLE: lazy_gettext("Admin"),
    "admin": lazy_gettext("Admin"),
    MEMBER_ROLE: lazy_gettext("Member"),
    "member": lazy_gettext("Member"),
    "basic_member": lazy_gettext("Member"),
}


class ClerkRole(Struct, frozen=True, kw_only=True):
    """A role in Clerk.

    `permissions` are their keys, None if Clerk did not send them; `version` is Clerk's `updated_at` in Unix
    milliseconds.
    """

    id: str
    key: str
    name: str
    permissions: tuple[str, ...] | None = None
    version: int = 0


class InstanceRoles(Struct, frozen=True):
    """All roles of an instance, and the key of the default one (None if Clerk does not report it)."""

    roles: Sequence[ClerkRole]
    default: str | None = None


class OrganizationRole(Struct, frozen=True, order=True):
    """A role that can be assigned in an organization."""

    key: str
    name: str
    is_admin: bool = False
    is_default: bool = False


class RoleCatalog(Struct, frozen=True):
    """The roles of an organization.

    `instance_roles` are empty until they are read; `configured_admins` are the admin roles of the settings.
    """

    instance_roles: tuple[OrganizationRole, ...] = ()
    configured_admins: frozenset[str] = frozenset()
    is_local: bool = False

    @property
    def is_loaded(self) -> bool:
        """Return whether the roles are known."""
        return self.is_local or bool(self.instance_roles)

    @property
    def admins(self) -> frozenset[str]:
        """Return the keys of the admin roles."""
        return self.configured_admins | self.managing_roles

    @property
    def managing_roles(self) -> frozenset[str]:
        """Return the keys of the admin roles that may invite and manage members in Clerk."""
        if self.is_local:
            return frozenset({ADMIN_ROLE})
        return (
            frozenset(role.key for role in self.instance_roles if role.is_admin)
            if self.instance_roles
            else FALLBACK_ADMIN_ROLES
        )

    @property
    def default(self) -> str:
        """Return the key of the default role: the instance's, else one that is not an admin role."""
        if not self.instance_roles or self.is_local:
            return MEMBER_ROLE
        keys = {role.key for role in self.instance_roles}
        default = [role.key for role in self.instance_roles if role.is_default]
        standard = [key for key in _MEMBER_ROLE_KEYS if key in keys]
        other = [role.key for role in self.instance_roles if not self.is_admin(role.key)]
        return next(iter([*default, *standard, *other]), self.instance_roles[0].key)

    @property
    def highest_role(self) -> str:
        """Return the key of an admin role."""
        keys = self.admins
        return ADMIN_ROLE if ADMIN_ROLE in keys or not keys else min(keys)

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Return keys and names of the assignable roles, the default first. Names are translatable."""
        if not self.instance_roles or self.is_local:
            return ((MEMBER_ROLE, DEFAULT_ROLE_NAMES[MEMBER_ROLE]), (ADMIN_ROLE, DEFAULT_ROLE_NAMES[ADMIN_ROLE]))
        default = self.default
        ordered = sorted(self.instance_roles, key=lambda role: (role.key != default, self.is_admin(role.key), role.key))
        return tuple(
            (role.key, DEFAULT_ROLE_NAMES[role.key] if role.name == DEFAULT_ROLE_NAMES.get(role.key) else role.name)
            for role in ordered
        )

    def is_admin(self, role: str | None) -> bool:
        """Return whether a role is an admin role."""
        return role is not None and role in self.admins

    def rank(self, role: str | None) -> int:
        """Return the rank of a role: 0 for none, 1 for a member, 2 for an admin."""
        return 0 if role is None else 2 if self.is_admin(role) else 1

    def is_known(self, role: str) -> bool:
        """Return whether a role can be assigned; until the roles are read, Clerk decides."""
        if self.is_local:
            return role in (ADMIN_ROLE, MEMBER_ROLE)
        return any(known.key == role for known in self.instance_roles) if self.instance_roles else True

    def find_key(self, text: str) -> str:
        """Return the key of a role that was entered as a key, a name, or a key without `org:`."""
        lowered = text.lower()
        keys = [role.key for role in self.instance_roles] if not self.is_local else []
        for key in (text, lowered, f"org:{lowered}"):
            if key in keys:
                return key
        key_by_name = {name.lower(): key for key, name in self.options}
        return key_by_name.get(lowered) or (text if ":" in text else f"org:{lowered}")


UNKNOWN_ROLES = RoleCatalog()


def can_manage_members(permissions: Sequence[str]) -> bool:
    """Return whether these permissions make a role an admin role."""
    return MANAGE_MEMBERS_PERMISSION in permissions


@lru_cache(maxsize=256)
def unpack_roles(packed: str | None, configured_admins: frozenset[str]) -> RoleCatalog:
    """Return the roles that a statement packed into one text (see `FIELD_SEPARATOR`)."""
    records = [record.split(FIELD_SEPARATOR) for record in packed.split(RECORD_SEPARATOR)] if packed else []
    is_listed = any("l" in flags for *_, flags in records)
    roles = (
        (OrganizationRole(key, name, "a" in flags, "d" in flags) for key, name, flags in records) if is_listed else ()
    )
    return RoleCatalog(tuple(sorted(roles)), configured_admins)


@lru_cache(maxsize=256)
def make_local_roles(roles: RoleCatalog) -> RoleCatalog:
    """Return the roles of a local organization, which Clerk does not know."""
    return RoleCatalog(roles.instance_roles, roles.configured_admins, is_local=True)
