"""Verify first and second factors: passwords and codes, with lockout."""

from clerk_emulator.state import mailer, passwords, sessions, users, verifications
from clerk_emulator.state.errors import ApiError, ErrorDetail, field_error, not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import EmailAddress, PhoneNumber, User, Verification


def first_factor_emails(user: User) -> list[EmailAddress]:
    """Return the addresses that a user may verify as the first factor."""
    return [email for email in user.email_addresses if email.status == "verified"]


def second_factor_phones(user: User) -> list[PhoneNumber]:
    """Return the phone numbers that are second factors of a user."""
    return [phone for phone in user.phone_numbers if phone.is_second_factor and phone.status == "verified"]


def send_email_code(
    instance: Instance, user: User, strategy: str, email_id: str | None, preferred: str | None = None
) -> Verification:
    """Send a code to an address of a user: the one with this id, else the preferred one, else the first."""
    sessions.require_can_sign_in(instance, user)
    named = [email for email in first_factor_emails(user) if email_id in (None, email.id)]
    if not named:
        raise not_found_error("email address", email_id or "")
    email = next((one for one in named if one.email_address == preferred), named[0])
    code = mailer.send_code(instance, email.email_address, user.id, email.id)
    return verifications.create(instance, email.id, code, strategy)


def send_phone_code(instance: Instance, user: User, phone_id: str | None) -> Verification:
    """Send a code to a phone of a user."""
    phone = next((one for one in second_factor_phones(user) if phone_id in (None, one.id)), None)
    if phone is None:
        raise not_found_error("phone number", phone_id or "")
    code = mailer.send_code(instance, phone.phone_number, user.id, phone.id)
    return verifications.create(instance, phone.id, code, "phone_code")


def require_password(instance: Instance, user: User, password: str) -> None:
    """Reject a wrong or compromised password."""
    sessions.require_can_sign_in(instance, user)
    if user.password is None:
        message = "This user has no password. Use another strategy."
        raise ApiError(400, ErrorDetail("strategy_for_user_invalid", "no password", message))
    if not passwords.verify_password(user.password, password):
        _count_failure(instance, user)
        raise field_error("form_password_incorrect", "password", "The password is incorrect.")
    if user.is_password_compromised:
        message = "This password may be compromised. Sign in another way."
        raise field_error("form_password_compromised", "password", message)


def require_code(instance: Instance, user: User, verification_id: str | None, strategy: str, code: str) -> None:
    """Reject a wrong or expired code."""
    sessions.require_can_sign_in(instance, user)
    try:
        verifications.require_code(instance, verification_id, strategy, code)
    except ApiError as error:
        if error.problems[0].code == "form_code_incorrect":
            _count_failure(instance, user)
        raise


def _count_failure(instance: Instance, user: User) -> None:
    user.failed_attempts += 1
    if 0 < instance.settings.lockout_attempts <= user.failed_attempts:
        users.set_locked(instance, user, True)
