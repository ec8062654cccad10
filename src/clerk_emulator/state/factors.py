"""Proving that one is who one says: by a password, or by a code that was sent; who guesses too often is locked out."""

from clerk_emulator.state import passwords, post, proofs, sessions, users
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import EmailAddress, PhoneNumber, User, Verification
from clerk_emulator.state.refusals import Problem, Refused, bad_field, missing_resource


def first_emails(user: User) -> list[EmailAddress]:
    """Return the addresses by which a user may prove to be there."""
    return [email for email in user.email_addresses if email.status == "verified"]


def second_phones(user: User) -> list[PhoneNumber]:
    """Return the numbers that a user has to prove as well."""
    return [phone for phone in user.phone_numbers if phone.is_second_factor and phone.status == "verified"]


def send_to_email(
    instance: Instance, user: User, strategy: str, email_id: str | None, preferred: str | None = None
) -> Verification:
    """Send a code to an address of a user: the one of this id, else the preferred one, else the first."""
    sessions.require_may_sign_in(instance, user)
    named = [email for email in first_emails(user) if email_id in (None, email.id)]
    if not named:
        raise missing_resource("email address", email_id or "")
    email = next((one for one in named if one.email_address == preferred), named[0])
    code = post.send_code(instance, email.email_address, user.id, email.id)
    return proofs.open_(instance, email.id, code, strategy)


def send_to_phone(instance: Instance, user: User, phone_id: str | None) -> Verification:
    """Send a code to a phone of a user."""
    phone = next((one for one in second_phones(user) if phone_id in (None, one.id)), None)
    if phone is None:
        raise missing_resource("phone number", phone_id or "")
    code = post.send_code(instance, phone.phone_number, user.id, phone.id)
    return proofs.open_(instance, phone.id, code, "phone_code")


def require_password(instance: Instance, user: User, password: str) -> None:
    """Refuse a wrong password, and a right one that others may know."""
    sessions.require_may_sign_in(instance, user)
    if user.password is None:
        words = "This user has no password: another way has to be taken."
        raise Refused(400, Problem("strategy_for_user_invalid", "no password", words))
    if not passwords.matches(user.password, password):
        _count_failure(instance, user)
        raise bad_field("form_password_incorrect", "password", "This is not the password of this user.")
    if user.is_password_compromised:
        words = "Somebody else may know this password. Sign in another way."
        raise bad_field("form_password_compromised", "password", words)


def require_code(instance: Instance, user: User, verification_id: str | None, strategy: str, code: str) -> None:
    """Refuse a wrong or late code."""
    sessions.require_may_sign_in(instance, user)
    try:
        proofs.require_right(instance, verification_id, strategy, code)
    except Refused as refused:
        if refused.problems[0].code == "form_code_incorrect":
            _count_failure(instance, user)
        raise


def _count_failure(instance: Instance, user: User) -> None:
    user.failed_attempts += 1
    if 0 < instance.settings.lockout_attempts <= user.failed_attempts:
        users.set_locked(instance, user, True)
