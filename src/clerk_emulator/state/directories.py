"""SCIM directories: provision, deprovision and assign roles."""

from typing import Any

from clerk_emulator.state import emails, memberships, roles, sessions, users
from clerk_emulator.state.errors import not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Directory, Membership, Organization, User

NAME_FIELDS = ("first_name", "last_name")


def get(instance: Instance, directory_id: str) -> Directory:
    """Return a directory, or raise an ApiError."""
    found = instance.directories.find(directory_id)
    if found is None:
        raise not_found_error("directory", directory_id)
    return found


def create(instance: Instance, name: str, directory_id: str | None = None) -> Directory:
    """Create a directory. No event is sent: Clerk has none for this."""
    now = instance.now
    created = Directory(id=directory_id or instance.ids.new("scimdir"), name=name, created_at=now, updated_at=now)
    instance.directories.add(created)
    return created


def delete(instance: Instance, directory: Directory) -> None:
    """Delete a directory; its users stay active and are no longer managed."""
    for user in _list_users(instance, directory):
        user.directory_id = user.directory_user_id = None
        if user.deprovisioned:
            set_active(instance, user, True)
    for membership in instance.memberships:
        if membership.directory_id == directory.id:
            membership.directory_id = None
    instance.directories.remove(directory.id)


def set_enabled(instance: Instance, directory: Directory, is_enabled: bool) -> None:
    """Enable or disable a directory; disabling reactivates its users."""
    directory.enabled = is_enabled
    instance.touch(directory)
    if not is_enabled:
        for user in _list_users(instance, directory):
            if user.deprovisioned:
                set_active(instance, user, True)


def provision(instance: Instance, directory: Directory, attributes: dict[str, Any]) -> User:
    """Create or update a user as the identity provider says; an existing user with the same address is taken over.

    `attributes`: `user_id` or `email_address`, `first_name`, `last_name`, `external_id` (of the directory), `active`.
    """
    address = attributes.get("email_address")
    user = instance.users.find(attributes.get("user_id")) or (emails.find_owner(instance, address) if address else None)
    if user is None:
        draft = {name: attributes.get(name) for name in NAME_FIELDS} | {"email_address": [address] if address else []}
        link = (directory.id, attributes.get("external_id"))
        user = users.create(instance, draft, strategy="scim", directory=link)
        is_changed = False
    else:
        is_changed = _update_user(instance, directory, user, attributes)
    if attributes.get("active") is not None and attributes["active"] is user.deprovisioned:
        set_active(instance, user, attributes["active"])
    elif is_changed:
        instance.touch_and_publish("user.updated", user)
    return user


def set_active(instance: Instance, user: User, is_active: bool) -> User:
    """Deactivate a user, which ends all sessions, or reactivate them."""
    user.deprovisioned = not is_active
    if not is_active:
        sessions.end_all(instance, user, "revoked")
    instance.touch_and_publish("user.updated", user)
    return user


def assign_role(
    instance: Instance, directory: Directory, organization: Organization, user: User, role: str
) -> Membership:
    """Assign the role of a directory group to a user, as a member of an organization."""
    roles.get_in_role_set(instance, organization.role_set, role)
    found = memberships.find(instance, organization.id, user.id)
    if found is None:
        found = memberships.create_unchecked(instance, organization, user, role, {"directory_id": directory.id})
    else:
        found.directory_id = directory.id
        memberships.set_role(instance, found, role)
    return found


def _list_users(instance: Instance, directory: Directory) -> list[User]:
    return [user for user in instance.users if user.directory_id == directory.id]


def _update_user(instance: Instance, directory: Directory, user: User, attributes: dict[str, Any]) -> bool:
    before = (user.directory_id, user.directory_user_id, user.first_name, user.last_name, user.primary_email_address_id)
    user.directory_id = directory.id
    user.directory_user_id = attributes.get("external_id", user.directory_user_id)
    for name in NAME_FIELDS:
        if name in attributes:
            setattr(user, name, attributes[name])
    address = attributes.get("email_address")
    if address:
        _set_address(instance, user, address)
    return before != (
        user.directory_id,
        user.directory_user_id,
        user.first_name,
        user.last_name,
        user.primary_email_address_id,
    )


def _set_address(instance: Instance, user: User, address: str) -> None:
    wanted = emails.parse_address(address)
    email = next((one for one in user.email_addresses if one.email_address == wanted), None)
    if email is None:
        email = emails.attach(instance, user, wanted, "verified", "scim")
    emails.require_free(instance, wanted, exclude=user)
    for old in [one for one in user.email_addresses if one.strategy == "scim" and one is not email]:
        emails.detach(instance, user, old)
    email.status, email.strategy = "verified", "scim"
    emails.index(instance, email)
    user.primary_email_address_id = email.id
