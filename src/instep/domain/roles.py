"""Organization roles: which are admin roles and which one is the default."""

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from instep.core.i18n import lazy_gettext
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE

ADMIN_ROLES_OPTION = "instep_admin_roles"


"""The name of the option of a database's connections that holds the roles of INSTEP_ADMIN_ROLES (a frozenset)."""


MANAGE_MEMBERS_PERMISSION = "org:sys_memberships:manage"


"""The system permission that makes an admin; it can't be renamed or deleted in Clerk."""


FALLBACK_ADMIN_ROLES = frozenset({ADMIN_ROLE, "admin"})


"""What counts as an admin's role until the roles of the instance were read: Clerk's first role, now and before 2024."""


_MEMBER_ROLE_KEYS = (MEMBER_ROLE, "member", "basic_member")
DEFAULT_ROLE_NAMES = {
    ADMIN_ROLE: lazy_gettext("Admin"),
    "admin": lazy_gettext("Admin"),
    MEMBER_ROLE: lazy_gettext("Member"),
    "member": lazy_gettext("Member"),
    "basic_member": lazy_gettext("Member"),
}


class ClerkRole(Struct, frozen=True, kw_only=True):
    """A role as Clerk has it. `permissions` are their keys, None where Clerk did not send them; `version` is Clerk's
    `updated_at` in Unix milliseconds.
    """

    id: str
    key: str
    name: str
    permissions: tuple[str, ...] | None = None
    version: int = 0


class InstanceRoles(Struct, frozen=True):
    """Every role of an instance, and the key of the one that is given by default (None: Clerk does not say)."""

    roles: Sequence[ClerkRole]
    default: str | None = None


class OrganizationRole(Struct, frozen=True, order=True):
    """A role that can be given in an organization."""

    key: str
    name: str
    is_admin: bool = False
    is_default: bool = False


class RoleCatalog(Struct, frozen=True):
    """The roles of an organization. `listed` are the instance's, empty until they were read; `named` are the admins'
    roles of the settings.
    """

    listed: tuple[OrganizationRole, ...] = ()
    named: frozenset[str] = frozenset()
    is_local: bool = False

    @property
    def is_read(self) -> bool:
        """Whether it is known which roles there are."""
        return self.is_local or bool(self.listed)

    @property
    def admins(self) -> frozenset[str]:
        """The keys of the roles that make an admin."""
        return self.named | self.managing_roles

    @property
    def managing_roles(self) -> frozenset[str]:
        """The keys of those of them that Clerk itself lets invite and manage members."""
        if self.is_local:
            return frozenset({ADMIN_ROLE})
        return frozenset(it.key for it in self.listed if it.is_admin) if self.listed else FALLBACK_ADMIN_ROLES

    @property
    def default(self) -> str:
        """The key of the role that is given where nobody chose one: the instance's, else one that makes no admin."""
        if not self.listed or self.is_local:
            return MEMBER_ROLE
        keys = {it.key for it in self.listed}
        chosen = [it.key for it in self.listed if it.is_default]
        usual = [key for key in _MEMBER_ROLE_KEYS if key in keys]
        lowest = [it.key for it in self.listed if not self.is_admin(it.key)]
        return next(iter([*chosen, *usual, *lowest]), self.listed[0].key)

    @property
    def highest_role(self) -> str:
        """The key of a role that makes an admin."""
        keys = self.admins
        return ADMIN_ROLE if ADMIN_ROLE in keys or not keys else min(keys)

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """The keys and names of the roles that can be given, the default one first. Names are to be translated."""
        if not self.listed or self.is_local:
            return ((MEMBER_ROLE, DEFAULT_ROLE_NAMES[MEMBER_ROLE]), (ADMIN_ROLE, DEFAULT_ROLE_NAMES[ADMIN_ROLE]))
        first = self.default
        listed = sorted(self.listed, key=lambda it: (it.key != first, self.is_admin(it.key), it.key))
        return tuple(
            (it.key, DEFAULT_ROLE_NAMES[it.key] if it.name == DEFAULT_ROLE_NAMES.get(it.key) else it.name)
            for it in listed
        )

    def is_admin(self, role: str | None) -> bool:
        """Return whether a role makes an admin."""
        return role is not None and role in self.admins

    def rank(self, role: str | None) -> int:
        """Return how high a role is: 0 for none, 1 for a member's, 2 for an admin's."""
        return 0 if role is None else 2 if self.is_admin(role) else 1

    def is_known(self, role: str) -> bool:
        """Return whether a role can be given; while the roles were not read Clerk decides."""
        if self.is_local:
            return role in (ADMIN_ROLE, MEMBER_ROLE)
        return any(it.key == role for it in self.listed) if self.listed else True

    def key_of(self, word: str) -> str:
        """Return the key that somebody means who types `word`: a key, its name, or the key without `org:`."""
        small = word.lower()
        keys = [it.key for it in self.listed] if not self.is_local else []
        for key in (word, small, f"org:{small}"):
            if key in keys:
                return key
        named = {name.lower(): key for key, name in self.options}
        return named.get(small) or (word if ":" in word else f"org:{small}")


UNKNOWN_ROLES = RoleCatalog()


def can_manage_members(permissions: Sequence[str]) -> bool:
    """Return whether these permissions make an admin."""
    return MANAGE_MEMBERS_PERMISSION in permissions


@lru_cache(maxsize=256)
def unpack_roles(packed: str | None, named: frozenset[str]) -> RoleCatalog:
    """Return the roles that a statement gathered in one text (see `PACKED`)."""
    parts = [part.split(FIELD_SEPARATOR) for part in packed.split(RECORD_SEPARATOR)] if packed else []
    is_listed = any("l" in flags for *_, flags in parts)
    listed = (
        (OrganizationRole(key, name, "a" in flags, "d" in flags) for key, name, flags in parts) if is_listed else ()
    )
    return RoleCatalog(tuple(sorted(listed)), named)


@lru_cache(maxsize=256)
def make_local_roles(roles: RoleCatalog) -> RoleCatalog:
    """Return the roles of an organization that Clerk does not know, in an installation with these roles."""
    return RoleCatalog(roles.listed, roles.named, is_local=True)


FIELD_SEPARATOR, RECORD_SEPARATOR = "\x1f", "\x1e"


"""What parts the fields and the records of roles in one text: a key, a name, and flags (a: admin, d: default, l: was
in a list)."""
