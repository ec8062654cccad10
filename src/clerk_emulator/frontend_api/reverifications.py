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


def start(call: FrontendCall) -> Any:
    """Start a reverification."""
    session = require_active_session(call)
    return _to_json(call, session, reverifications.start(call.instance, session, require_field(call.fields, "level")))


def prepare_first(call: FrontendCall) -> Any:
    """Send a code to an email address."""
    _require_strategy(call, "email_code")
    session = require_active_session(call)
    found = reverifications.prepare_first(call.instance, session, call.fields.text("email_address_id"))
    return _to_json(call, session, found)


def attempt_first(call: FrontendCall) -> Any:
    """Check a password or a code."""
    session = require_active_session(call)
    if _require_strategy(call, "email_code", "password") == "password":
        found = reverifications.attempt_password(call.instance, session, require_field(call.fields, "password"))
    else:
        found = reverifications.attempt_code(call.instance, session, require_field(call.fields, "code"))
    return _to_json(call, session, found)


def prepare_second(call: FrontendCall) -> Any:
    """Send a code to a phone."""
    _require_strategy(call, "phone_code")
    session = require_active_session(call)
    found = reverifications.prepare_second(call.instance, session, call.fields.text("phone_number_id"))
    return _to_json(call, session, found)


def attempt_second(call: FrontendCall) -> Any:
    """Check the code sent to a phone."""
    _require_strategy(call, "phone_code")
    session = require_active_session(call)
    found = reverifications.attempt_second(call.instance, session, require_field(call.fields, "code"))
    return _to_json(call, session, found)


def _to_json(call: FrontendCall, session: Session, found: Reverification) -> Any:
    return reverification(call.instance, session, found, call.site)


def _require_strategy(call: FrontendCall, *accepted: str) -> str:
    found = call.fields.text("strategy") or accepted[0]
    if found not in accepted:
        raise NotEmulatedError(f"the verification strategy {found}")
    return found


ROUTES = (
    FrontendRoute("POST", PATH, "startSessionReverification", start),
    FrontendRoute("POST", f"{PATH}/prepare_first_factor", "prepareSessionReverificationFirstFactor", prepare_first),
    FrontendRoute("POST", f"{PATH}/attempt_first_factor", "attemptSessionReverificationFirstFactor", attempt_first),
    FrontendRoute("POST", f"{PATH}/prepare_second_factor", "prepareSessionReverificationSecondFactor", prepare_second),
    FrontendRoute("POST", f"{PATH}/attempt_second_factor", "attemptSessionReverificationSecondFactor", attempt_second),
)
