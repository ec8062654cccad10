"""Proving once more, within a session, that one is who one says: before something that matters."""

from clerk_emulator.state import factors, users
from clerk_emulator.state.attempts import Reverification, keep
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import Session, User
from clerk_emulator.state.refusals import Problem, Refused, bad_value

LEVELS = ("first_factor", "second_factor", "multi_factor")


def begin(instance: Instance, session: Session, level: str) -> Reverification:
    """Begin. Whoever has no second factor proves the first."""
    if level not in LEVELS:
        raise bad_value("level")
    now, user = instance.now, users.get(instance, session.user_id)
    attempt = Reverification(
        id=instance.ids.new("srv"),
        session_id=session.id,
        level=level if factors.second_phones(user) else "first_factor",
        created_at=now,
        updated_at=now,
    )
    keep(instance.reverifications, attempt)
    session.reverification_id = attempt.id
    return attempt


def get(instance: Instance, session: Session) -> Reverification:
    """Return what was begun in a session, or refuse."""
    found = instance.reverifications.find(session.reverification_id)
    if found is None:
        words = "It has to be begun first."
        raise Refused(400, Problem("session_reverification_missing", "not begun", words))
    return found


def prepare_first(instance: Instance, session: Session, email_id: str | None) -> Reverification:
    """Send a code to an address."""
    attempt = _at(instance, session, "needs_first_factor")
    sent = factors.send_to_email(instance, _user(instance, session), "email_code", email_id)
    attempt.first_verification_id = sent.id
    return attempt


def attempt_password(instance: Instance, session: Session, password: str) -> Reverification:
    """Prove the first factor by the password."""
    attempt = _at(instance, session, "needs_first_factor")
    factors.require_password(instance, _user(instance, session), password)
    return _prove_first(instance, session, attempt, "password")


def attempt_code(instance: Instance, session: Session, code: str) -> Reverification:
    """Prove the first factor by the code that was sent."""
    attempt = _at(instance, session, "needs_first_factor")
    factors.require_code(instance, _user(instance, session), attempt.first_verification_id, "email_code", code)
    return _prove_first(instance, session, attempt, "email_code")


def prepare_second(instance: Instance, session: Session, phone_id: str | None) -> Reverification:
    """Send a code to a phone."""
    attempt = _at(instance, session, "needs_second_factor")
    attempt.second_verification_id = factors.send_to_phone(instance, _user(instance, session), phone_id).id
    return attempt


def attempt_second(instance: Instance, session: Session, code: str) -> Reverification:
    """Prove the second factor by the code that was sent."""
    attempt = _at(instance, session, "needs_second_factor")
    factors.require_code(instance, _user(instance, session), attempt.second_verification_id, "phone_code", code)
    attempt.second_proof = "phone_code"
    session.second_factor_verified_at = instance.now
    return attempt


def _prove_first(instance: Instance, session: Session, attempt: Reverification, strategy: str) -> Reverification:
    attempt.first_proof = strategy
    session.factor_verified_at = instance.now
    return attempt


def _at(instance: Instance, session: Session, wanted: str) -> Reverification:
    found = get(instance, session)
    if found.status != wanted:
        words = f"This takes one that {wanted.replace('_', ' ')}, and this one is: {found.status.replace('_', ' ')}."
        raise Refused(400, Problem("invalid_action_for_session_reverification", "out of turn", words))
    return found


def _user(instance: Instance, session: Session) -> User:
    return users.get(instance, session.user_id)
