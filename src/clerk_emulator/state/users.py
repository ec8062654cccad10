"""Users: create, update, ban, lock and delete."""

from typing import Any

from clerk_emulator.state import (
    directory_managed,
    emails,
    memberships,
    metadata,
    passwords,
    phones,
    sessions,
    usernames,
)
from clerk_emulator.state.errors import (
    ApiError,
    ErrorDetail,
    identifier_exists_error,
    invalid_value_error,
    not_found_error,
)
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import User

PLAIN_FIELDS = (
    "first_name",
    "last_name",
    "locale",
    "delete_self_enabled",
    "create_organization_enabled",
    "create_organizations_limit",
    "legal_accepted_at",
    "bypass_client_trust",
)
METADATA_FIELDS = ("public_metadata", "private_metadata", "unsafe_metadata")


def get(instance: Instance, user_id: str) -> User:
    """Return a user, or raise an ApiError."""
    user = instance.users.find(user_id)
    if user is None:
        raise not_found_error("user", user_id)
    return user


def create(
    instance: Instance,
    draft: dict[str, Any],
    *,
    strategy: str = "admin",
    directory: tuple[str | None, str | None] = (None, None),
) -> User:
    """Create a user from validated fields and publish the event; a failure leaves nothing behind.

    `directory`: the id of the directory that creates the user, and the directory's id of the user.
    """
    addresses = [emails.parse_address(address) for address in draft.get("email_address") or []]
    numbers = [phones.parse_number(number) for number in draft.get("phone_number") or []]
    _require_identity(draft, [*addresses, *numbers])
    _require_free(instance, draft, addresses, numbers)
    for name in METADATA_FIELDS:
        metadata.check_size(name, draft.get(name) or {})
    statuses = {name: draft.get(f"{name}_identification_status") or [] for name in ("email_address", "phone_number")}
    for name, values in statuses.items():
        if any(status not in emails.STATUSES for status in values):
            raise invalid_value_error(f"{name}_identification_status")
    user = _build_user(instance, draft)
    user.directory_id, user.directory_user_id = directory
    instance.users.add(user)
    _index(instance, user)
    for address, status in _with_status(addresses, statuses["email_address"]):
        emails.attach(instance, user, address, status, strategy)
    for number, status in _with_status(numbers, statuses["phone_number"]):
        phones.attach(instance, user, number, status)
    instance.publish("user.created", user)
    return user


def update(instance: Instance, user: User, changes: dict[str, Any]) -> User:
    """Update a user and publish the event."""
    _require_free_names(instance, changes, exclude=user)
    changed = (name for name in changes if changes[name] != getattr(user, name, None))
    directory_managed.require_unmanaged_attributes(instance, user, changed)
    for name in METADATA_FIELDS:
        metadata.check_size(name, changes.get(name) or {})
    if changes.get("primary_email_address_id"):
        wanted = emails.get(instance, changes["primary_email_address_id"])
        directory_managed.require_unmanaged_primary(instance, user, wanted)
        emails.make_primary(user, wanted)
    if changes.get("primary_phone_number_id"):
        phones.make_primary(user, phones.get(instance, changes["primary_phone_number_id"]))
    if changes.get("password") is not None or changes.get("password_digest") is not None:
        _set_password(instance, user, changes)
    metadata.replace_in(user, {name: changes[name] for name in METADATA_FIELDS if name in changes})
    _unindex(instance, user)
    for name in ("username", "external_id"):
        if name in changes:
            setattr(user, name, changes[name] or None)
    _index(instance, user)
    for name in PLAIN_FIELDS:
        if name in changes:
            setattr(user, name, changes[name])
    if changes.get("created_at") is not None:
        user.created_at = changes["created_at"]
        instance.users.reposition(user)
    if changes.get("sign_out_of_other_sessions"):
        sessions.end_all(instance, user, "revoked")
    instance.touch_and_publish("user.updated", user)
    return user


def merge_metadata(instance: Instance, user: User, changes: dict[str, Any]) -> User:
    """Merge metadata deeply and publish the event."""
    metadata.merge_into(user, changes)
    instance.touch_and_publish("user.updated", user)
    return user


def replace_metadata(instance: Instance, user: User, changes: dict[str, Any]) -> User:
    """Replace the given metadata fields and publish the event."""
    metadata.replace_in(user, changes)
    instance.touch_and_publish("user.updated", user)
    return user


def set_banned(instance: Instance, user: User, is_banned: bool) -> User:
    """Ban a user, which ends all sessions, or unban."""
    user.banned = is_banned
    if is_banned:
        sessions.end_all(instance, user, "revoked")
    instance.touch_and_publish("user.updated", user)
    return user


def set_locked(instance: Instance, user: User, is_locked: bool) -> User:
    """Lock a user out for a while, or unlock."""
    user.lockout_ends_at = instance.now + instance.settings.lockout_seconds * 1000 if is_locked else None
    user.failed_attempts = 0
    instance.touch_and_publish("user.updated", user)
    return user


def delete(instance: Instance, user: User) -> User:
    """Delete a user with all memberships and sessions; a setting decides whether those have events."""
    directory_managed.require_deletable(instance, user)
    should_publish_events = instance.settings.cascade_events
    sessions.end_all(instance, user, "removed", should_publish=should_publish_events)
    for membership in memberships.list_by_user(instance, user.id):
        memberships.remove_record(instance, membership)
        if should_publish_events:
            instance.publish("organizationMembership.deleted", membership)
    for email in user.email_addresses:
        emails.unindex(instance, email)
    for phone in user.phone_numbers:
        phones.unindex(instance, phone)
    for suggestion in [row for row in instance.organization_suggestions if row.user_id == user.id]:
        instance.organization_suggestions.remove(suggestion.id)
    _unindex(instance, user)
    instance.users.remove(user.id)
    instance.publish("user.deleted", user)
    return user


def remove_password(instance: Instance, user: User, *, sign_out: bool) -> User:
    """Remove the password if there is one."""
    if user.password is not None:
        user.password = None
        if sign_out:
            sessions.end_all(instance, user, "revoked")
        instance.touch_and_publish("user.updated", user)
    return user


def require_password(user: User, password: str) -> None:
    """Reject a wrong password of the user."""
    if user.password is None:
        raise ApiError(400, ErrorDetail("no_password_set", "no password", "This user has no password."))
    if not passwords.verify_password(user.password, password):
        raise ApiError(422, ErrorDetail("incorrect_password", "wrong password", "The password is incorrect."))


def insert_record(instance: Instance, user: User) -> None:
    """Insert a stored user."""
    instance.users.add(user)
    _index(instance, user)
    for email in user.email_addresses:
        emails.index(instance, email)
    for phone in user.phone_numbers:
        phones.index(instance, phone)


def set_password_compromised(instance: Instance, user: User, is_compromised: bool, *, sign_out: bool = False) -> User:
    """Mark the password as compromised or not."""
    if user.password is None:
        raise ApiError(400, ErrorDetail("no_password_set", "no password", "This user has no password."))
    user.is_password_compromised = is_compromised
    if sign_out:
        sessions.end_all(instance, user, "revoked")
    instance.touch_and_publish("user.updated", user)
    return user


def set_image(instance: Instance, user: User, image_url: str) -> User:
    """Set or delete the image of a user and publish the event."""
    user.image_url = image_url
    instance.touch_and_publish("user.updated", user)
    return user


def _with_status(values: list[str], statuses: list[str]) -> list[tuple[str, str]]:
    return [
        (value, statuses[position] if position < len(statuses) else "verified") for position, value in enumerate(values)
    ]


def _build_user(instance: Instance, draft: dict[str, Any]) -> User:
    now = instance.now
    user = User(
        id=draft.get("id") or instance.ids.new("user"),
        external_id=draft.get("external_id") or None,
        username=draft.get("username") or None,
        banned=bool(draft.get("banned")),
        created_at=draft.get("created_at") or now,
        updated_at=draft.get("updated_at") or now,
    )
    for name in (*PLAIN_FIELDS, "last_sign_in_at", "last_active_at"):
        if draft.get(name) is not None:
            setattr(user, name, draft[name])
    metadata.replace_in(user, {name: draft.get(name) for name in METADATA_FIELDS})
    if draft.get("locked"):
        user.lockout_ends_at = now + instance.settings.lockout_seconds * 1000
    if draft.get("password") is not None or draft.get("password_digest") is not None:
        _set_password(instance, user, draft)
    return user


def _set_password(instance: Instance, user: User, draft: dict[str, Any]) -> None:
    if draft.get("password") is not None:
        if not draft.get("skip_password_checks"):
            names = [draft.get("username") or user.username or "", *draft.get("email_address", ())]
            own = [email.email_address for email in user.email_addresses]
            numbers = [*draft.get("phone_number", ()), *(phone.phone_number for phone in user.phone_numbers)]
            passwords.require_strength(draft["password"], [*names, *own, *numbers])
        user.password = passwords.hash_password(draft["password"])
    else:
        user.password = passwords.import_digest(draft["password_digest"], draft.get("password_hasher") or "unknown")
    user.password_last_updated_at = instance.now
    user.is_password_compromised = False


def _require_identity(draft: dict[str, Any], addresses: list[str]) -> None:
    if addresses or draft.get("username") or draft.get("skip_user_requirement"):
        return
    message = "A user needs an email address, a phone number or a username."
    raise ApiError(422, ErrorDetail("form_data_missing", "missing data", message, {"param_names": ["email_address"]}))


def _require_free(instance: Instance, draft: dict[str, Any], addresses: list[str], numbers: list[str]) -> None:
    for position, number in enumerate(numbers):
        if number in numbers[:position]:
            raise identifier_exists_error("phone_number")
        phones.require_free(instance, number)
    for position, address in enumerate(addresses):
        if address in addresses[:position]:
            raise identifier_exists_error("email_address")
        emails.require_free(instance, address)
    if draft.get("id") in instance.users:
        raise identifier_exists_error("id")
    _require_free_names(instance, draft)


def _require_free_names(instance: Instance, draft: dict[str, Any], *, exclude: User | None = None) -> None:
    if draft.get("username") and (exclude is None or exclude.username != draft["username"]):
        usernames.validate_username(draft["username"])
    for name, index in (("username", instance.usernames), ("external_id", instance.external_ids)):
        value = draft.get(name)
        owner = index.get(_normalize(name, value)) if value else None
        if owner is not None and (exclude is None or owner != exclude.id):
            raise identifier_exists_error(name)


def _normalize(name: str, value: str) -> str:
    return value.lower() if name == "username" else value


def _index(instance: Instance, user: User) -> None:
    if user.username:
        instance.usernames[user.username.lower()] = user.id
    if user.external_id:
        instance.external_ids[user.external_id] = user.id


def _unindex(instance: Instance, user: User) -> None:
    instance.usernames.pop((user.username or "").lower(), None)
    instance.external_ids.pop(user.external_id or "", None)
