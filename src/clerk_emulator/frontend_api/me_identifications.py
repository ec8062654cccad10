"""Frontend API: the signed-in user's e-mail addresses and phone numbers."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, UnwrappedResponse, require_field
from clerk_emulator.state import emails, phones, verifications
from clerk_emulator.state.errors import NotEmulatedError, not_found_error
from clerk_emulator.state.models import EmailAddress, PhoneNumber
from clerk_emulator.wire import frontend_json
from clerk_emulator.wire.user_json import deleted_object

EMAIL_PATH = "/me/email_addresses/{email_id}"
PHONE_PATH = "/me/phone_numbers/{phone_number_id}"


def list_emails(visit: FrontendCall) -> Any:
    """Answer the user's addresses."""
    return UnwrappedResponse([frontend_json.email_address(row) for row in visit.user.email_addresses])


def add_email(visit: FrontendCall) -> Any:
    """Add an address, to be proved by a code."""
    user = visit.user
    address = emails.parse_address(require_field(visit.fields, "email_address"))
    emails.require_free(visit.instance, address)
    return frontend_json.email_address(
        emails.create(visit.instance, user, address, is_verified=False, is_primary=False)
    )


def get_email(visit: FrontendCall) -> Any:
    """Answer one address."""
    return frontend_json.email_address(_get_email(visit))


def prepare_email(visit: FrontendCall) -> Any:
    """Send a code."""
    found = _get_email(visit)
    _require_strategy(visit, "email_code")
    return frontend_json.email_address(found, emails.prepare_verification(visit.instance, found))


def attempt_email(visit: FrontendCall) -> Any:
    """Try a code."""
    found = _get_email(visit)
    proof = verifications.get_latest(visit.instance, found.id)
    verifications.require_code(visit.instance, proof.id, "email_code", require_field(visit.fields, "code"))
    emails.mark_verified(visit.instance, found)
    return frontend_json.email_address(found, proof)


def delete_email(visit: FrontendCall) -> Any:
    """Take an address away."""
    found = _get_email(visit)
    emails.delete(visit.instance, found)
    return deleted_object("email_address", found.id)


def list_phones(visit: FrontendCall) -> Any:
    """Answer the user's numbers."""
    return UnwrappedResponse([frontend_json.phone_number(row) for row in visit.user.phone_numbers])


def add_phone(visit: FrontendCall) -> Any:
    """Add a number, to be proved by a code."""
    user = visit.user
    number = phones.parse_number(require_field(visit.fields, "phone_number"))
    phones.require_free(visit.instance, number)
    made = phones.create(visit.instance, user, number, is_verified=False, is_primary=False)
    made.is_second_factor = bool(visit.fields.flag("reserved_for_second_factor"))
    return frontend_json.phone_number(made)


def get_phone(visit: FrontendCall) -> Any:
    """Answer one number."""
    return frontend_json.phone_number(_get_phone(visit))


def update_phone(visit: FrontendCall) -> Any:
    """Make a number a second factor, or none."""
    is_second = visit.fields.flag("reserved_for_second_factor")
    changed = phones.update(
        visit.instance, _get_phone(visit), is_verified=None, is_primary=None, is_second_factor=is_second
    )
    return frontend_json.phone_number(changed)


def prepare_phone(visit: FrontendCall) -> Any:
    """Send a code."""
    found = _get_phone(visit)
    _require_strategy(visit, "phone_code")
    return frontend_json.phone_number(found, phones.prepare_verification(visit.instance, found))


def attempt_phone(visit: FrontendCall) -> Any:
    """Try a code."""
    found = _get_phone(visit)
    proof = verifications.get_latest(visit.instance, found.id)
    verifications.require_code(visit.instance, proof.id, "phone_code", require_field(visit.fields, "code"))
    phones.mark_verified(visit.instance, found)
    return frontend_json.phone_number(found, proof)


def delete_phone(visit: FrontendCall) -> Any:
    """Take a number away."""
    found = _get_phone(visit)
    phones.delete(visit.instance, found)
    return deleted_object("phone_number", found.id)


def _get_email(visit: FrontendCall) -> EmailAddress:
    user, wanted = visit.user, visit.params["email_id"]
    found = next((row for row in user.email_addresses if row.id == wanted), None)
    if found is None:
        raise not_found_error("email address", wanted)
    return found


def _get_phone(visit: FrontendCall) -> PhoneNumber:
    user, wanted = visit.user, visit.params["phone_number_id"]
    found = next((row for row in user.phone_numbers if row.id == wanted), None)
    if found is None:
        raise not_found_error("phone number", wanted)
    return found


def _require_strategy(visit: FrontendCall, strategy: str) -> None:
    if require_field(visit.fields, "strategy") != strategy:
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
