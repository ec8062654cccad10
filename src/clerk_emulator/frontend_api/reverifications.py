"""Frontend API: step-up reverification within a session."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, require_field
from clerk_emulator.frontend_api.sessions import require_active_session
from clerk_emulator.state import reverifications
from clerk_emulator.state.auth_attempts import Reverification
from clerk_emulator.state.errors import NotEmulatedError
from clerk_emulator.state.models import Session
from clerk_emulator.wire.reverification_json import reverification

PATH = "/client/sessions/{session_id}/verify"


def start(visit: FrontendCall) -> Any:
    """Begin."""
    session = require_active_session(visit)
    return _to_json(
        visit, session, reverifications.start(visit.instance, session, require_field(visit.fields, "level"))
    )


def prepare_first(visit: FrontendCall) -> Any:
    """Send a code to an address."""
    _require_strategy(visit, "email_code")
    session = require_active_session(visit)
    found = reverifications.prepare_first(visit.instance, session, visit.fields.text("email_address_id"))
    return _to_json(visit, session, found)


def attempt_first(visit: FrontendCall) -> Any:
    """Take a password or a code."""
    session = require_active_session(visit)
    if _require_strategy(visit, "email_code", "password") == "password":
        found = reverifications.attempt_password(visit.instance, session, require_field(visit.fields, "password"))
    else:
        found = reverifications.attempt_code(visit.instance, session, require_field(visit.fields, "code"))
    return _to_json(visit, session, found)


def prepare_second(visit: FrontendCall) -> Any:
    """Send a code to a phone."""
    _require_strategy(visit, "phone_code")
    session = require_active_session(visit)
    found = reverifications.prepare_second(visit.instance, session, visit.fields.text("phone_number_id"))
    return _to_json(visit, session, found)


def attempt_second(visit: FrontendCall) -> Any:
    """Take the code that was sent to a phone."""
    _require_strategy(visit, "phone_code")
    session = require_active_session(visit)
    found = reverifications.attempt_second(visit.instance, session, require_field(visit.fields, "code"))
    return _to_json(visit, session, found)


def _to_json(visit: FrontendCall, session: Session, found: Reverification) -> Any:
    return reverification(visit.instance, session, found, visit.site)


def _require_strategy(visit: FrontendCall, *taken: str) -> str:
    found = visit.fields.text("strategy") or taken[0]
    if found not in taken:
        raise NotEmulatedError(f"proving it by {found}")
    return found


ROUTES = (
    FrontendRoute("POST", PATH, "startSessionReverification", start),
    FrontendRoute("POST", f"{PATH}/prepare_first_factor", "prepareSessionReverificationFirstFactor", prepare_first),
    FrontendRoute("POST", f"{PATH}/attempt_first_factor", "attemptSessionReverificationFirstFactor", attempt_first),
    FrontendRoute("POST", f"{PATH}/prepare_second_factor", "prepareSessionReverificationSecondFactor", prepare_second),
    FrontendRoute("POST", f"{PATH}/attempt_second_factor", "attemptSessionReverificationSecondFactor", attempt_second),
)
