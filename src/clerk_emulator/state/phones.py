"""Phone numbers: ownership, primary number and verification."""

import re

from clerk_emulator.state import mailer, verifications
from clerk_emulator.state.emails import STATUSES
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
from clerk_emulator.state.models import PhoneNumber, User, Verification

NUMBER_PATTERN = re.compile(r"\+[1-9]\d{6,14}")


def parse_number(number: str, name: str = "phone_number") -> str:
    """Return the number without separators, or raise an ApiError if it is invalid."""
    found = re.sub(r"[\s().-]", "", number)
    if not NUMBER_PATTERN.fullmatch(found):
        raise invalid_format_error(name, "must be a valid phone number in the form +15555550100")
    return found


def get(instance: Instance, phone_id: str) -> PhoneNumber:
    """Return a phone number by its id, or raise an ApiError."""
    phone = instance.phones.get(phone_id)
    if phone is None:
        raise not_found_error("phone number", phone_id)
    return phone


def require_free(instance: Instance, number: str, *, exclude: User | None = None) -> None:
    """Reject a number that another user has."""
    owner = instance.phone_owners.get(number)
    if owner is not None and (exclude is None or owner != exclude.id):
        raise identifier_exists_error("phone_number")


def attach(instance: Instance, user: User, number: str, status: str) -> PhoneNumber:
    """Add a number to a user without publishing an event."""
    found = parse_number(number)
    if status not in STATUSES:
        raise invalid_value_error("identification_status")
    if any(phone.phone_number == found for phone in user.phone_numbers):
        raise identifier_exists_error("phone_number")
    if status != "unverified":
        require_free(instance, found)
    now = instance.now
    phone = PhoneNumber(
        id=instance.ids.new("idn"),
        user_id=user.id,
        phone_number=found,
        status=status,
        strategy="admin" if status == "verified" else None,
        created_at=now,
        updated_at=now,
    )
    user.phone_numbers.append(phone)
    index(instance, phone)
    if user.primary_phone_number_id is None and phone.is_claimed:
        user.primary_phone_number_id = phone.id
    return phone


def index(instance: Instance, phone: PhoneNumber) -> None:
    """Add a number to the indexes."""
    instance.phones[phone.id] = phone
    if phone.is_claimed:
        instance.phone_owners[phone.phone_number] = phone.user_id


def unindex(instance: Instance, phone: PhoneNumber) -> None:
    """Remove a number from the indexes."""
    instance.phones.pop(phone.id, None)
    if phone.is_claimed:
        instance.phone_owners.pop(phone.phone_number, None)


def detach(instance: Instance, user: User, phone: PhoneNumber) -> None:
    """Remove a number from a user without publishing an event."""
    user.phone_numbers.remove(phone)
    unindex(instance, phone)
    if user.primary_phone_number_id == phone.id:
        left = next((other for other in user.phone_numbers if other.is_claimed), None)
        user.primary_phone_number_id = left.id if left else None


def create(instance: Instance, user: User, number: str, *, is_verified: bool, is_primary: bool) -> PhoneNumber:
    """Add a number to a user and publish the event."""
    if is_primary and not is_verified:
        raise unverified_error("primary")
    phone = attach(instance, user, number, "verified" if is_verified else "unverified")
    if is_primary:
        make_primary(user, phone)
    instance.touch_and_publish("user.updated", user)
    return phone


def update(
    instance: Instance,
    phone: PhoneNumber,
    *,
    is_verified: bool | None,
    is_primary: bool | None,
    is_second_factor: bool | None = None,
) -> PhoneNumber:
    """Verify or unverify a number, make it the primary one, or a second factor."""
    user = _get_owner(instance, phone)
    if is_primary and is_verified is not True and not phone.is_claimed:
        raise unverified_error("primary")
    if is_verified is not None:
        _set_verified(instance, user, phone, is_verified)
    if is_primary:
        make_primary(user, phone)
    if is_second_factor is not None:
        phone.is_second_factor = is_second_factor
    instance.touch(phone)
    instance.touch_and_publish("user.updated", user)
    return phone


def make_primary(user: User, phone: PhoneNumber) -> None:
    """Make a verified or reserved number the primary one."""
    if phone.user_id != user.id:
        raise not_found_error("phone number", phone.id)
    if not phone.is_claimed:
        raise unverified_error("primary_phone_number_id")
    user.primary_phone_number_id = phone.id


def delete(instance: Instance, phone: PhoneNumber) -> None:
    """Delete a number; the last identification of a user cannot be deleted."""
    user = _get_owner(instance, phone)
    if len(user.phone_numbers) == 1 and user.username is None and not user.email_addresses:
        message = "The last identification of a user can't be deleted."
        raise ApiError(400, ErrorDetail("identification_deletion_failed", "not deleted", message))
    detach(instance, user, phone)
    instance.touch_and_publish("user.updated", user)


def replace_all(instance: Instance, user: User, number: str, status: str) -> PhoneNumber:
    """Replace all numbers of a user by this one."""
    found = parse_number(number)
    if status != "unverified":
        require_free(instance, found, exclude=user)
    for old in list(user.phone_numbers):
        detach(instance, user, old)
    phone = attach(instance, user, found, status)
    user.primary_phone_number_id = phone.id
    instance.touch_and_publish("user.updated", user)
    return phone


def prepare_verification(instance: Instance, phone: PhoneNumber) -> Verification:
    """Start a verification and send its code."""
    code = mailer.send_code(instance, phone.phone_number, phone.user_id, phone.id)
    return verifications.create(instance, phone.id, code, "phone_code")


def attempt_verification(instance: Instance, phone: PhoneNumber, verification_id: str, code: str) -> Verification:
    """Check a code. A wrong or expired code is a result, not an error."""
    found = verifications.get(instance, phone.id, verification_id)
    if verifications.check_code(instance, found, code):
        mark_verified(instance, phone)
        found.status = "verified"
    return found


def mark_verified(instance: Instance, phone: PhoneNumber) -> None:
    """Mark a number as verified after a right code, and publish the event."""
    if phone.status != "verified":
        user = _get_owner(instance, phone)
        _set_verified(instance, user, phone, True)
        phone.strategy = "phone_code"
        instance.touch(phone)
        instance.touch_and_publish("user.updated", user)


def _get_owner(instance: Instance, phone: PhoneNumber) -> User:
    user = instance.users.find(phone.user_id)
    assert user is not None, "a number has a user"  # noqa: S101
    return user


def _set_verified(instance: Instance, user: User, phone: PhoneNumber, is_verified: bool) -> None:
    if is_verified:
        require_free(instance, phone.phone_number, exclude=user)
        phone.status, phone.strategy = "verified", "admin"
        index(instance, phone)
        return
    if phone.is_claimed:
        instance.phone_owners.pop(phone.phone_number, None)
    phone.status, phone.strategy = "unverified", None
