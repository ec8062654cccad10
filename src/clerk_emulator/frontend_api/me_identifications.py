"""Frontend API: the signed-in user's email addresses and phone numbers."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, UnwrappedResponse, require_field
from clerk_emulator.state import emails, phones, verifications
from clerk_emulator.state.errors import NotEmulatedError, not_found_error
from clerk_emulator.state.models import EmailAddress, PhoneNumber
from clerk_emulator.wire import frontend_json
from clerk_emulator.wire.user_json import deleted_object

EMAIL_PATH = "/me/email_addresses/{email_id}"
PHONE_PATH = "/me/phone_numbers/{phone_number_id}"


def list_emails(call: FrontendCall) -> Any:
    """List the user's email addresses."""
    return UnwrappedResponse([frontend_json.email_address(row) for row in call.user.email_addresses])


def add_email(call: FrontendCall) -> Any:
    """Add an unverified email address."""
    user = call.user
    address = emails.parse_address(require_field(call.fields, "email_address"))
    emails.require_free(call.instance, address)
    return frontend_json.email_address(emails.create(call.instance, user, address, is_verified=False, is_primary=False))


def get_email(call: FrontendCall) -> Any:
    """Return an email address."""
    return frontend_json.email_address(_get_email(call))


def prepare_email(call: FrontendCall) -> Any:
    """Send a verification code."""
    found = _get_email(call)
    _require_strategy(call, "email_code")
    return frontend_json.email_address(found, emails.prepare_verification(call.instance, found))


def attempt_email(call: FrontendCall) -> Any:
    """Check a verification code."""
    found = _get_email(call)
    verification = verifications.get_latest(call.instance, found.id)
    verifications.require_code(call.instance, verification.id, "email_code", require_field(call.fields, "code"))
    emails.mark_verified(call.instance, found)
    return frontend_json.email_address(found, verification)


def delete_email(call: FrontendCall) -> Any:
    """Delete an email address."""
    found = _get_email(call)
    emails.delete(call.instance, found)
    return deleted_object("email_address", found.id)


def list_phones(call: FrontendCall) -> Any:
    """List the user's phone numbers."""
    return UnwrappedResponse([frontend_json.phone_number(row) for row in call.user.phone_numbers])


def add_phone(call: FrontendCall) -> Any:
    """Add an unverified phone number."""
    user = call.user
    number = phones.parse_number(require_field(call.fields, "phone_number"))
    phones.require_free(call.instance, number)
    created = phones.create(call.instance, user, number, is_verified=False, is_primary=False)
    created.is_second_factor = bool(call.fields.flag("reserved_for_second_factor"))
    return frontend_json.phone_number(created)


def get_phone(call: FrontendCall) -> Any:
    """Return a phone number."""
    return frontend_json.phone_number(_get_phone(call))


def update_phone(call: FrontendCall) -> Any:
    """Make a phone number a second factor, or stop using it as one."""
    is_second = call.fields.flag("reserved_for_second_factor")
    changed = phones.update(
        call.instance, _get_phone(call), is_verified=None, is_primary=None, is_second_factor=is_second
    )
    return frontend_json.phone_number(changed)


def prepare_phone(call: FrontendCall) -> Any:
    """Send a verification code."""
    found = _get_phone(call)
    _require_strategy(call, "phone_code")
    return frontend_json.phone_number(found, phones.prepare_verification(call.instance, found))


def attempt_phone(call: FrontendCall) -> Any:
    """Check a verification code."""
    found = _get_phone(call)
    verification = verifications.get_latest(call.instance, found.id)
    verifications.require_code(call.instance, verification.id, "phone_code", require_field(call.fields, "code"))
    phones.mark_verified(call.instance, found)
    return frontend_json.phone_number(found, verification)


def delete_phone(call: FrontendCall) -> Any:
    """Delete a phone number."""
    found = _get_phone(call)
    phones.delete(call.instance, found)
    return deleted_object("phone_number", found.id)


def _get_email(call: FrontendCall) -> EmailAddress:
    user, wanted = call.user, call.params["email_id"]
    found = next((row for row in user.email_addresses if row.id == wanted), None)
    if found is None:
        raise not_found_error("email address", wanted)
    return found


def _get_phone(call: FrontendCall) -> PhoneNumber:
    user, wanted = call.user, call.params["phone_number_id"]
    found = next((row for row in user.phone_numbers if row.id == wanted), None)
    if found is None:
        raise not_found_error("phone number", wanted)
    return found


def _require_strategy(call: FrontendCall, strategy: str) -> None:
    if require_field(call.fields, "strategy") != strategy:
        raise NotEmulatedError(f"another strategy than {strategy}")


ROUTES = (
    FrontendRoute("GET", "/me/email_addresses", "getEmailAddresses", list_emails),
    FrontendRoute("POST", "/me/email_addresses", "createEmailAddresses", add_email),
    FrontendRoute("GET", EMAIL_PATH, "getEmailAddress", get_email),
    FrontendRoute("DELETE", EMAIL_PATH, "DeleteEmailAddress", delete_email),
    FrontendRoute("POST", f"{EMAIL_PATH}/prepare_verification", "sendVerificationEmail", prepare_email),
    FrontendRoute("POST", f"{EMAIL_PATH}/attempt_verification", "verifyEmailAddress", attempt_email),
    FrontendRoute("GET", "/me/phone_numbers", "getPhoneNumbers", list_phones),
    FrontendRoute("POST", "/me/phone_numbers", "postPhoneNumbers", add_phone),
    FrontendRoute("GET", PHONE_PATH, "ReadPhoneNumber", get_phone),
    FrontendRoute("PATCH", PHONE_PATH, "UpdatePhoneNumber", update_phone),
    FrontendRoute("DELETE", PHONE_PATH, "DeletePhoneNumber", delete_phone),
    FrontendRoute("POST", f"{PHONE_PATH}/prepare_verification", "sendVerificationSMS", prepare_phone),
    FrontendRoute("POST", f"{PHONE_PATH}/attempt_verification", "verifyPhoneNumber", attempt_phone),
)
