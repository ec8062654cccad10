"""The user's own e-mail addresses and phone numbers: adding one, proving it by a code, taking it away."""

from typing import Any

from clerk_emulator.frontend.visit import Bare, Route, Visit
from clerk_emulator.frontend.visit import require as require_field
from clerk_emulator.state import emails, phones, proofs
from clerk_emulator.state.model import EmailAddress, PhoneNumber
from clerk_emulator.state.refusals import NotEmulated, missing_resource
from clerk_emulator.wire import front
from clerk_emulator.wire.people import deleted

EMAIL = "/me/email_addresses/{email_id}"
PHONE = "/me/phone_numbers/{phone_number_id}"


def list_emails(visit: Visit) -> Any:
    """Answer the user's addresses."""
    return Bare([front.email_address(row) for row in visit.user.email_addresses])


def add_email(visit: Visit) -> Any:
    """Add an address, to be proved by a code."""
    user = visit.user
    address = emails.check_shape(require_field(visit.fields, "email_address"))
    emails.require_free(visit.instance, address)
    return front.email_address(emails.create(visit.instance, user, address, is_verified=False, is_primary=False))


def get_email(visit: Visit) -> Any:
    """Answer one address."""
    return front.email_address(_email(visit))


def prepare_email(visit: Visit) -> Any:
    """Send a code."""
    found = _email(visit)
    _require_strategy(visit, "email_code")
    return front.email_address(found, emails.prepare(visit.instance, found))


def attempt_email(visit: Visit) -> Any:
    """Try a code."""
    found = _email(visit)
    proof = proofs.newest(visit.instance, found.id)
    proofs.require_right(visit.instance, proof.id, "email_code", require_field(visit.fields, "code"))
    emails.accept_proof(visit.instance, found)
    return front.email_address(found, proof)


def delete_email(visit: Visit) -> Any:
    """Take an address away."""
    found = _email(visit)
    emails.delete(visit.instance, found)
    return deleted("email_address", found.id)


def list_phones(visit: Visit) -> Any:
    """Answer the user's numbers."""
    return Bare([front.phone_number(row) for row in visit.user.phone_numbers])


def add_phone(visit: Visit) -> Any:
    """Add a number, to be proved by a code."""
    user = visit.user
    number = phones.check_shape(require_field(visit.fields, "phone_number"))
    phones.require_free(visit.instance, number)
    made = phones.create(visit.instance, user, number, is_verified=False, is_primary=False)
    made.is_second_factor = bool(visit.fields.flag("reserved_for_second_factor"))
    return front.phone_number(made)


def get_phone(visit: Visit) -> Any:
    """Answer one number."""
    return front.phone_number(_phone(visit))


def update_phone(visit: Visit) -> Any:
    """Make a number a second factor, or none."""
    is_second = visit.fields.flag("reserved_for_second_factor")
    changed = phones.update(
        visit.instance, _phone(visit), is_verified=None, is_primary=None, is_second_factor=is_second
    )
    return front.phone_number(changed)


def prepare_phone(visit: Visit) -> Any:
    """Send a code."""
    found = _phone(visit)
    _require_strategy(visit, "phone_code")
    return front.phone_number(found, phones.prepare(visit.instance, found))


def attempt_phone(visit: Visit) -> Any:
    """Try a code."""
    found = _phone(visit)
    proof = proofs.newest(visit.instance, found.id)
    proofs.require_right(visit.instance, proof.id, "phone_code", require_field(visit.fields, "code"))
    phones.accept_proof(visit.instance, found)
    return front.phone_number(found, proof)


def delete_phone(visit: Visit) -> Any:
    """Take a number away."""
    found = _phone(visit)
    phones.delete(visit.instance, found)
    return deleted("phone_number", found.id)


def _email(visit: Visit) -> EmailAddress:
    user, wanted = visit.user, visit.params["email_id"]
    found = next((row for row in user.email_addresses if row.id == wanted), None)
    if found is None:
        raise missing_resource("email address", wanted)
    return found


def _phone(visit: Visit) -> PhoneNumber:
    user, wanted = visit.user, visit.params["phone_number_id"]
    found = next((row for row in user.phone_numbers if row.id == wanted), None)
    if found is None:
        raise missing_resource("phone number", wanted)
    return found


def _require_strategy(visit: Visit, strategy: str) -> None:
    if require_field(visit.fields, "strategy") != strategy:
        raise NotEmulated(f"another strategy than {strategy}")


ROUTES = (
    Route("GET", "/me/email_addresses", "getEmailAddresses", list_emails),
    Route("POST", "/me/email_addresses", "createEmailAddresses", add_email),
    Route("GET", EMAIL, "getEmailAddress", get_email),
    Route("DELETE", EMAIL, "DeleteEmailAddress", delete_email),
    Route("POST", f"{EMAIL}/prepare_verification", "sendVerificationEmail", prepare_email),
    Route("POST", f"{EMAIL}/attempt_verification", "verifyEmailAddress", attempt_email),
    Route("GET", "/me/phone_numbers", "getPhoneNumbers", list_phones),
    Route("POST", "/me/phone_numbers", "postPhoneNumbers", add_phone),
    Route("GET", PHONE, "ReadPhoneNumber", get_phone),
    Route("PATCH", PHONE, "UpdatePhoneNumber", update_phone),
    Route("DELETE", PHONE, "DeletePhoneNumber", delete_phone),
    Route("POST", f"{PHONE}/prepare_verification", "sendVerificationSMS", prepare_phone),
    Route("POST", f"{PHONE}/attempt_verification", "verifyPhoneNumber", attempt_phone),
)
