"""Proving once more, within a session, that one is who one says."""

from typing import Any

from clerk_emulator.frontend.sessions import active
from clerk_emulator.frontend.visit import Route, Visit, require
from clerk_emulator.state import reverifications
from clerk_emulator.state.attempts import Reverification
from clerk_emulator.state.model import Session
from clerk_emulator.state.refusals import NotEmulated
from clerk_emulator.wire.reverifications import reverification

PATH = "/client/sessions/{session_id}/verify"


def begin(visit: Visit) -> Any:
    """Begin."""
    session = active(visit)
    return _shape(visit, session, reverifications.begin(visit.instance, session, require(visit.fields, "level")))


def prepare_first(visit: Visit) -> Any:
    """Send a code to an address."""
    _strategy(visit, "email_code")
    session = active(visit)
    found = reverifications.prepare_first(visit.instance, session, visit.fields.text("email_address_id"))
    return _shape(visit, session, found)


def attempt_first(visit: Visit) -> Any:
    """Take a password or a code."""
    session = active(visit)
    if _strategy(visit, "email_code", "password") == "password":
        found = reverifications.attempt_password(visit.instance, session, require(visit.fields, "password"))
    else:
        found = reverifications.attempt_code(visit.instance, session, require(visit.fields, "code"))
    return _shape(visit, session, found)


def prepare_second(visit: Visit) -> Any:
    """Send a code to a phone."""
    _strategy(visit, "phone_code")
    session = active(visit)
    found = reverifications.prepare_second(visit.instance, session, visit.fields.text("phone_number_id"))
    return _shape(visit, session, found)


def attempt_second(visit: Visit) -> Any:
    """Take the code that was sent to a phone."""
    _strategy(visit, "phone_code")
    session = active(visit)
    found = reverifications.attempt_second(visit.instance, session, require(visit.fields, "code"))
    return _shape(visit, session, found)


def _shape(visit: Visit, session: Session, found: Reverification) -> Any:
    return reverification(visit.instance, session, found, visit.site)


def _strategy(visit: Visit, *taken: str) -> str:
    found = visit.fields.text("strategy") or taken[0]
    if found not in taken:
        raise NotEmulated(f"proving it by {found}")
    return found


ROUTES = (
    Route("POST", PATH, "startSessionReverification", begin),
    Route("POST", f"{PATH}/prepare_first_factor", "prepareSessionReverificationFirstFactor", prepare_first),
    Route("POST", f"{PATH}/attempt_first_factor", "attemptSessionReverificationFirstFactor", attempt_first),
    Route("POST", f"{PATH}/prepare_second_factor", "prepareSessionReverificationSecondFactor", prepare_second),
    Route("POST", f"{PATH}/attempt_second_factor", "attemptSessionReverificationSecondFactor", attempt_second),
)
