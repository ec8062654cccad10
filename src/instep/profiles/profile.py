"""A person as the slice shows them, how the list is asked for, and what became of a change of address. Pure."""

import base64
import binascii
from typing import Literal, get_args

from msgspec import Struct

from instep.identity.refusals import Refused
from instep.mirror.people import PersonRow

Status = Literal["active", "deactivated", "deleted", "banned", "deprovisioned", "local"]
STATUSES: tuple[Status, ...] = get_args(Status)
SHOWN_AT_FIRST = frozenset(STATUSES) - {"deleted"}


class Belonging(Struct, frozen=True, kw_only=True):
    """One organization that a person belongs to, or is deactivated in."""

    membership_id: str
    organization_id: str
    organization_clerk_id: str | None
    name: str
    slug: str | None
    role: str
    status: str


class Profile(Struct, frozen=True, kw_only=True):
    """A person with the organizations that the reader may know of; `is_whole`: with what only instance admins see."""

    person: PersonRow
    belongings: tuple[Belonging, ...]
    is_whole: bool

    @property
    def status(self) -> Status:
        """Where the person stands."""
        return status_of(self.person)

    @property
    def role(self) -> str | None:
        """Their role in the application, where the public metadata name one."""
        metadata = self.person.public_metadata
        role = metadata.get("role") if isinstance(metadata, dict) else None
        return role if isinstance(role, str) else None


class Reinvited(Struct, frozen=True, kw_only=True):
    """What became of one organization when someone was invited again under a new address.

    `state`: invited (and the old membership deactivated), checking (the operation goes on), refused, or kept (the
    organization is not in Clerk).
    """

    organization_id: str
    name: str
    role: str
    state: Literal["invited", "checking", "refused", "kept"]
    detail: str | None = None
    operation: str | None = None


class EmailChange(Struct, frozen=True, kw_only=True):
    """What became of a change of address, or what has to happen first.

    `same` means that the person has this address already, perhaps in other letters: nothing was changed.
    `verification` is what the code is given with, until `expires_at` (Unix milliseconds); `consequences` is what
    inviting anew will do, in sentences; `note` is what else there is to know.
    """

    outcome: Literal["changed", "same", "requires_invitation", "requires_verification", "invited"]
    email: str
    verification: str | None = None
    expires_at: int | None = None
    consequences: tuple[str, ...] = ()
    organizations: tuple[Reinvited, ...] = ()
    note: str | None = None


class Cursor(Struct, frozen=True):
    """Where a page ended."""

    joined_at: int
    id: str


class Ask(Struct, frozen=True, kw_only=True):
    """What is asked of the list: newest first; no `statuses` means all but the deleted."""

    limit: int = 50
    query: str = ""
    statuses: frozenset[Status] = frozenset()
    organization: str | None = None
    cursor: Cursor | None = None


class Users(Struct, frozen=True, kw_only=True):
    """A page of people."""

    rows: list[Profile]
    next_cursor: str | None


def status_of(person: PersonRow) -> Status:
    """The one word for where a person stands; the gravest wins."""
    if person.is_deleted:
        return "deleted"
    if person.is_banned:
        return "banned"
    if person.is_deprovisioned:
        return "deprovisioned"
    if not person.is_active:
        return "deactivated"
    return "active" if person.clerk_id else "local"


def encode_cursor(cursor: Cursor) -> str:
    """A cursor as it is handed out."""
    return base64.urlsafe_b64encode(f"{cursor.joined_at}:{cursor.id}".encode()).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """A cursor as it came back. Raises Refused."""
    try:
        joined_at, _, id = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode().partition(":")
        if id and id.isprintable() and 0 <= int(joined_at) < 2**62:
            return Cursor(int(joined_at), id)
    except (binascii.Error, UnicodeError, ValueError):
        pass
    raise Refused("This is no cursor of ours.", code="bad_cursor", field="cursor")
