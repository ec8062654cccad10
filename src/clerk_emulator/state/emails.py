"""Email addresses: ownership, primary address and verification."""

import re

from clerk_emulator.state import directory_managed, mailer, verifications
from clerk_emulator.state.errors import (
    ApiError,
    ErrorDetail,
    identifier_exists_error,
    invalid_format_error,
    invalid_value_error,
    not_found_error,
    unverified_error,
)
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import EmailAddress, User, Verification

ADDRESS_PATTERN = re.compile(r"[^@\s,;<>]+@[^@\s,;<>.]+(\.[^@\s,;<>.]+)*")
STATUSES = ("verified", "reserved", "unverified")


def normalize(address: str) -> str:
    """Return the form in which addresses are compared."""
    return address.strip().lower()


def parse_address(address: str, name: str = "email_address") -> str:
    """Return the normalized address, or raise an ApiError if it is invalid."""
    found = normalize(address)
    if len(found) > 254 or not ADDRESS_PATTERN.fullmatch(found):
        raise invalid_format_error(name, "must be a valid email address")
    return found


def find_owner(instance: Instance, address: str) -> User | None:
    """Return the user with this verified or reserved address."""
    return instance.users.find(instance.email_owners.get(normalize(address)))


def get(instance: Instance, email_id: str) -> EmailAddress:
    """Return an email address by its id, or raise an ApiError."""
    email = instance.emails.get(email_id)
    if email is None:
        raise not_found_error("email address", email_id)
    return email


def require_free(instance: Instance, address: str, *, exclude: User | None = None) -> None:
    """Reject an address that another user has."""
    owner = find_owner(instance, address)
    if owner is not None and owner is not exclude:
        raise identifier_exists_error("email_address")


def attach(instance: Instance, user: User, address: str, status: str, strategy: str = "admin") -> EmailAddress:
    """Add an address to a user without publishing an event."""
    found = parse_address(address)
    if status not in STATUSES:
        raise invalid_value_error("identification_status")
    if any(email.email_address == found for email in user.email_addresses):
        raise identifier_exists_error("email_address")
    if status != "unverified":
        require_free(instance, found)
    now = instance.now
    email = EmailAddress(
        id=instance.ids.new("idn"),
        user_id=user.id,
        email_address=found,
        status=status,
        strategy=strategy if status == "verified" else None,
        created_at=now,
        updated_at=now,
    )
    user.email_addresses.append(email)
    index(instance, email)
    if user.primary_email_address_id is None and email.is_claimed:
        user.primary_email_address_id = email.id
    return email


def index(instance: Instance, email: EmailAddress) -> None:
    """Add an address to the indexes."""
    instance.emails[email.id] = email
    if email.is_claimed:
        instance.email_owners[email.email_address] = email.user_id


def detach(instance: Instance, user: User, email: EmailAddress) -> None:
    """Remove an address from a user without publishing an event."""
    user.email_addresses.remove(email)
    unindex(instance, email)
    if user.primary_email_address_id == email.id:
        left = next((other for other in user.email_addresses if other.is_claimed), None)
        user.primary_email_address_id = left.id if left else None


def unindex(instance: Instance, email: EmailAddress) -> None:
    """Remove an address from the indexes."""
    instance.emails.pop(email.id, None)
    if instance.email_owners.get(email.email_address) == email.user_id and email.is_claimed:
        del instance.email_owners[email.email_address]


def create(instance: Instance, user: User, address: str, *, is_verified: bool, is_primary: bool) -> EmailAddress:
    """Add an address to a user and publish the event."""
    if is_primary and not is_verified:
        raise unverified_error("primary")
    if is_primary:
        directory_managed.require_unmanaged_primary(instance, user)
    email = attach(instance, user, address, "verified" if is_verified else "unverified")
    if is_primary:
        make_primary(user, email)
    instance.touch_and_publish("user.updated", user)
    return email


def update(
    instance: Instance, email: EmailAddress, *, is_verified: bool | None, is_primary: bool | None
) -> EmailAddress:
    """Verify or unverify an address, or make it the primary one."""
    user = instance.users.find(email.user_id)
    assert user is not None, "an address has a user"  # noqa: S101
    if is_primary and is_verified is not True and not email.is_claimed:
        raise unverified_error("primary")
    if is_verified is not None:
        directory_managed.require_unmanaged_address(instance, user, email)
    if is_primary:
        directory_managed.require_unmanaged_primary(instance, user, email)
    if is_verified is not None:
        _set_verified(instance, user, email, is_verified)
    if is_primary:
        make_primary(user, email)
    instance.touch(email)
    instance.touch_and_publish("user.updated", user)
    return email


def make_primary(user: User, email: EmailAddress) -> None:
    """Make a verified or reserved address the primary one."""
    if email.user_id != user.id:
        raise not_found_error("email address", email.id)
    if not email.is_claimed:
        raise unverified_error("primary_email_address_id")
    user.primary_email_address_id = email.id


def notify_primary_changed(instance: Instance, user: User) -> None:
    """Send a mail to the new primary address."""
    email = user.primary_email
    if email is not None:
        message = f"{email.email_address} is now the primary email address of your account."
        subject = "Your primary email address was changed"
        mailer.send(instance, email.email_address, "primary_email_address_changed", subject, message, user_id=user.id)


def delete(instance: Instance, email: EmailAddress) -> None:
    """Delete an address; the last identification of a user cannot be deleted."""
    user = instance.users.find(email.user_id)
    assert user is not None, "an address has a user"  # noqa: S101
    directory_managed.require_unmanaged_address(instance, user, email)
    if len(user.email_addresses) == 1 and user.username is None and not user.phone_numbers:
        message = "The last identification of a user can't be deleted."
        raise ApiError(400, ErrorDetail("identification_deletion_failed", "not deleted", message))
    detach(instance, user, email)
    instance.touch_and_publish("user.updated", user)


def replace_all(instance: Instance, user: User, address: str, status: str) -> EmailAddress:
    """Replace all addresses of a user by this one."""
    found = parse_address(address)
    if status not in STATUSES:
        raise invalid_value_error("identification_status")
    if status != "unverified":
        require_free(instance, found, exclude=user)
    for old in user.email_addresses:
        directory_managed.require_unmanaged_address(instance, user, old)
    for old in list(user.email_addresses):
        detach(instance, user, old)
    email = attach(instance, user, found, status)
    user.primary_email_address_id = email.id
    instance.touch_and_publish("user.updated", user)
    return email


def prepare_verification(instance: Instance, email: EmailAddress) -> Verification:
    """Start a verification and send its code."""
    code = mailer.send_code(instance, email.email_address, email.user_id, email.id)
    return verifications.create(instance, email.id, code, "email_code")


def attempt_verification(instance: Instance, email: EmailAddress, verification_id: str, code: str) -> Verification:
    """Check a code. A wrong or expired code is a result, not an error."""
    found = verifications.get(instance, email.id, verification_id)
    if verifications.check_code(instance, found, code):
        mark_verified(instance, email)
        found.status = "verified"
    return found


def mark_verified(instance: Instance, email: EmailAddress) -> None:
    """Mark an address as verified after a right code, and publish the event."""
    if email.status != "verified":
        user = instance.users.find(email.user_id)
        assert user is not None, "an address has a user"  # noqa: S101
        _set_verified(instance, user, email, True)
        email.strategy = "email_code"
        instance.touch(email)
        instance.touch_and_publish("user.updated", user)


def _set_verified(instance: Instance, user: User, email: EmailAddress, is_verified: bool) -> None:
    if is_verified:
        require_free(instance, email.email_address, exclude=user)
        email.status, email.strategy = "verified", "admin"
        index(instance, email)
        return
    if email.is_claimed:
        instance.email_owners.pop(email.email_address, None)
    email.status, email.strategy = "unverified", None
