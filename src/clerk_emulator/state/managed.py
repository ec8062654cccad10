"""What a directory manages can't be changed by hand: the refusals of Clerk's catalogue, all 409.

Nothing is managed any longer once the directory is disabled or deleted.
"""

from collections.abc import Iterable

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.kinds import Directory
from clerk_emulator.state.model import EmailAddress, Membership, User
from clerk_emulator.state.refusals import Problem, Refused

ATTRIBUTES = ("first_name", "last_name")  # and the addresses that the directory gave; what it maps by default


def directory_of(instance: Instance, thing: User | Membership) -> Directory | None:
    """Return the directory that manages a user or a membership now, or None."""
    found = instance.directories.find(thing.directory_id)
    return found if found is not None and found.enabled else None


def require_deletable(instance: Instance, user: User) -> None:
    """Refuse to delete a user of a directory."""
    if directory_of(instance, user) is not None:
        words = "A directory manages this user, who can't be deleted by hand."
        raise Refused(409, Problem("user_managed_by_scim", "user managed by a directory", words))


def require_free_attributes(instance: Instance, user: User, changed: Iterable[str]) -> None:
    """Refuse to change an attribute that a directory manages; `changed` are names of fields with new values."""
    if directory_of(instance, user) is None:
        return
    name = next((name for name in ATTRIBUTES if name in set(changed)), None)
    if name is not None:
        raise _managed_attribute(name)


def require_free_address(instance: Instance, user: User, email: EmailAddress) -> None:
    """Refuse to change or delete an address that a directory gave."""
    if email.strategy == "scim" and directory_of(instance, user) is not None:
        raise _managed_attribute("email_address")


def require_free_primary(instance: Instance, user: User, wanted: EmailAddress | None = None) -> None:
    """Refuse to make another address primary in place of one that a directory gave."""
    primary = user.primary_email
    if primary is not None and primary is not wanted:
        require_free_address(instance, user, primary)


def require_free_membership(instance: Instance, membership: Membership) -> None:
    """Refuse to change or end a membership whose role follows from the groups of a directory."""
    if directory_of(instance, membership) is not None:
        words = "A directory manages this membership, which can't be changed by hand."
        raise Refused(409, Problem("organization_membership_managed_by_scim", "managed by a directory", words))


def _managed_attribute(name: str) -> Refused:
    words = "A directory manages this attribute."
    return Refused(409, Problem("attribute_managed_by_scim", words, words, {"param_name": name}))
