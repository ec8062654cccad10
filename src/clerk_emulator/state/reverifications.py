"""Step-up reverification within a session."""

from clerk_emulator.state import factors, users
from clerk_emulator.state.auth_attempts import Reverification, store_attempt
from clerk_emulator.state.errors import ApiError, ErrorDetail, invalid_value_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Session, User

LEVELS = ("first_factor", "second_factor", "multi_factor")


def start(instance: Instance, session: Session, level: str) -> Reverification:
    """Start a reverification. A user without a second factor verifies the first."""
    if level not in LEVELS:
        raise invalid_value_error("level")
    now, user = instance.now, users.get(instance, session.user_id)
    attempt = Reverification(
        id=instance.ids.new("srv"),
        session_id=session.id,
        level=level if factors.second_factor_phones(user) else "first_factor",
        created_at=now,
        updated_at=now,
    )
    store_attempt(instance.reverifications, attempt)
    session.reverification_id = attempt.id
    return attempt


def get(instance: Instance, session: Session) -> Reverification:
    """Return the current reverification of a session, or raise an ApiError."""
    found = instance.reverifications.find(session.reverification_id)
    if found is None:
        message = "The reverification must be started first."
        raise ApiError(400, ErrorDetail("session_reverification_missing", "not started", message))
    return found


def prepare_first(instance: Instance, session: Session, email_id: str | None) -> Reverification:
    """Send a code to an address."""
    attempt = _require_status(instance, session, "needs_first_factor")
    sent = factors.send_email_code(instance, _get_user(instance, session), "email_code", email_id)
    attempt.first_verification_id = sent.id
    return attempt


def attempt_password(instance: Instance, session: Session, password: str) -> Reverification:
    """Verify the first factor by the password."""
    attempt = _require_status(instance, session, "needs_first_factor")
    factors.require_password(instance, _get_user(instance, session), password)
    return _record_first_factor(instance, session, attempt, "password")


def attempt_code(instance: Instance, session: Session, code: str) -> Reverification:
    """Verify the first factor by the code."""
    attempt = _require_status(instance, session, "needs_first_factor")
    factors.require_code(instance, _get_user(instance, session), attempt.first_verification_id, "email_code", code)
    return _record_first_factor(instance, session, attempt, "email_code")


def prepare_second(instance: Instance, session: Session, phone_id: str | None) -> Reverification:
    """Send a code to a phone."""
    attempt = _require_status(instance, session, "needs_second_factor")
    attempt.second_verification_id = factors.send_phone_code(instance, _get_user(instance, session), phone_id).id
    return attempt


def attempt_second(instance: Instance, session: Session, code: str) -> Reverification:
    """Verify the second factor by the code."""
    attempt = _require_status(instance, session, "needs_second_factor")
    factors.require_code(instance, _get_user(instance, session), attempt.second_verification_id, "phone_code", code)
    attempt.second_proof = "phone_code"
    session.second_factor_verified_at = instance.now
    return attempt


def _record_first_factor(
    instance: Instance, session: Session, attempt: Reverification, strategy: str
) -> Reverification:
    attempt.first_proof = strategy
    session.factor_verified_at = instance.now
    return attempt


def _require_status(instance: Instance, session: Session, wanted: str) -> Reverification:
    found = get(instance, session)
    if found.status != wanted:
        message = f"The status of the reverification must be {wanted}, but it is {found.status}."
        raise ApiError(400, ErrorDetail("invalid_action_for_session_reverification", "wrong step", message))
    return found


def _get_user(instance: Instance, session: Session) -> User:
    return users.get(instance, session.user_id)
