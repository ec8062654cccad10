"""Reject manual changes of users and memberships that a SCIM directory manages."""

from collections.abc import Iterable

from clerk_emulator.state.errors import ApiError, ErrorDetail
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Directory, EmailAddress, Membership, User

MANAGED_ATTRIBUTES = ("first_name", "last_name")  # and the addresses from the directory; its default mapping


def find_managing_directory(instance: Instance, record: User | Membership) -> Directory | None:
    """Return the enabled directory that manages a user or a membership, or None."""
    found = instance.directories.find(record.directory_id)
    return found if found is not None and found.enabled else None


def require_deletable(instance: Instance, user: User) -> None:
    """Reject deleting a directory-managed user."""
    if find_managing_directory(instance, user) is not None:
        message = "This user is managed by a directory and can't be deleted."
        raise ApiError(409, ErrorDetail("user_managed_by_scim", "user managed by a directory", message))


def require_unmanaged_attributes(instance: Instance, user: User, changed: Iterable[str]) -> None:
    """Reject changing a managed attribute; `changed` are names of fields with new values."""
    if find_managing_directory(instance, user) is None:
        return
    name = next((name for name in MANAGED_ATTRIBUTES if name in set(changed)), None)
    if name is not None:
        raise _managed_attribute_error(name)


def require_unmanaged_address(instance: Instance, user: User, email: EmailAddress) -> None:
    """Reject changing or deleting an address that a directory provides."""
    if email.strategy == "scim" and find_managing_directory(instance, user) is not None:
        raise _managed_attribute_error("email_address")


def require_unmanaged_primary(instance: Instance, user: User, wanted: EmailAddress | None = None) -> None:
    """Reject another primary address in place of one that a directory provides."""
    primary = user.primary_email
    if primary is not None and primary is not wanted:
        require_unmanaged_address(instance, user, primary)


def require_unmanaged_membership(instance: Instance, membership: Membership) -> None:
    """Reject changing or deleting a membership whose role follows from directory groups."""
    if find_managing_directory(instance, membership) is not None:
        message = "This membership is managed by a directory and can't be changed."
        raise ApiError(409, ErrorDetail("organization_membership_managed_by_scim", "managed by a directory", message))


def _managed_attribute_error(name: str) -> ApiError:
    message = "This attribute is managed by a directory."
    return ApiError(409, ErrorDetail("attribute_managed_by_scim", message, message, {"param_name": name}))
