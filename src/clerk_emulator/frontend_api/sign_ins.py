"""Frontend API: sign-in attempts, step by step."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, require_field
from clerk_emulator.state import sessions, sign_ins
from clerk_emulator.state.auth_attempts import SignIn
from clerk_emulator.state.errors import NotEmulatedError
from clerk_emulator.wire.auth_attempt_json import sign_in as shape

SUPPORTED_STRATEGIES = ("password", "ticket", *sign_ins.CODE_STRATEGIES)


def create(visit: FrontendCall) -> Any:
    """Begin; it is complete at once where a password or a ticket came with it."""
    fields, client = visit.fields, visit.get_or_create_client()
    strategy = fields.text("strategy") or ("password" if fields.text("password") else None)
    if strategy not in (None, *SUPPORTED_STRATEGIES):
        raise NotEmulatedError(f"signing in by {strategy}")
    if fields.flag("transfer"):
        raise NotEmulatedError("a sign-in that goes on from a sign-up")
    if strategy == "ticket":
        ticket = require_field(fields, "ticket")
        attempt = sign_ins.start(visit.instance, client)
        sign_ins.redeem_ticket(visit.instance, attempt, ticket)
        return _to_json(visit, attempt)
    sessions.require_can_add_session(visit.instance, client)
    identifier = fields.text("identifier")
    if identifier is None and strategy is not None:
        require_field(fields, "identifier")
    attempt = sign_ins.start(visit.instance, client)
    if identifier is not None:
        sign_ins.identify(visit.instance, attempt, identifier)
    if strategy == "password":
        sign_ins.attempt_password(visit.instance, attempt, require_field(fields, "password"))
    elif strategy is not None:
        sign_ins.prepare_first(visit.instance, attempt, strategy)
    return _to_json(visit, attempt)


def get(visit: FrontendCall) -> Any:
    """Answer the attempt."""
    return shape(visit.instance, _get_attempt(visit))


def prepare_first(visit: FrontendCall) -> Any:
    """Send a code."""
    strategy = _require_strategy(visit, sign_ins.CODE_STRATEGIES)
    attempt = _get_attempt(visit)
    sign_ins.prepare_first(visit.instance, attempt, strategy, visit.fields.text("email_address_id"))
    return _to_json(visit, attempt)


def attempt_first(visit: FrontendCall) -> Any:
    """Take a password or a code."""
    strategy = _require_strategy(visit, SUPPORTED_STRATEGIES)
    attempt = _get_attempt(visit)
    if strategy == "password":
        sign_ins.attempt_password(visit.instance, attempt, require_field(visit.fields, "password"))
    elif strategy == "ticket":
        sign_ins.redeem_ticket(visit.instance, attempt, require_field(visit.fields, "ticket"))
    else:
        sign_ins.attempt_code(visit.instance, attempt, strategy, require_field(visit.fields, "code"))
    return _to_json(visit, attempt)


def prepare_second(visit: FrontendCall) -> Any:
    """Send a code to a phone."""
    _require_strategy(visit, ("phone_code",), default="phone_code")
    attempt = _get_attempt(visit)
    sign_ins.prepare_second(visit.instance, attempt, visit.fields.text("phone_number_id"))
    return _to_json(visit, attempt)


def attempt_second(visit: FrontendCall) -> Any:
    """Take the code that was sent to a phone."""
    _require_strategy(visit, ("phone_code",), default="phone_code")
    attempt = _get_attempt(visit)
    sign_ins.attempt_second(visit.instance, attempt, require_field(visit.fields, "code"))
    return _to_json(visit, attempt)


def reset_password(visit: FrontendCall) -> Any:
    """Take a new password in place of a forgotten one."""
    attempt = _get_attempt(visit)
    password, sign_out = require_field(visit.fields, "password"), bool(visit.fields.flag("sign_out_of_other_sessions"))
    sign_ins.reset_password(visit.instance, attempt, password, sign_out=sign_out)
    return _to_json(visit, attempt)


def _get_attempt(visit: FrontendCall) -> SignIn:
    return sign_ins.get(visit.instance, visit.find_client(), visit.params["sign_in_id"])


def _require_strategy(visit: FrontendCall, taken: tuple[str, ...], default: str | None = None) -> str:
    found = visit.fields.text("strategy") or default or require_field(visit.fields, "strategy")
    if found not in taken:
        raise NotEmulatedError(f"signing in by {found}")
    return found


def _to_json(visit: FrontendCall, attempt: SignIn) -> Any:
    visit.record_origin(attempt.session_id)
    return shape(visit.instance, attempt)


ROUTES = (
    FrontendRoute("POST", "/client/sign_ins", "createSignIn", create),
    FrontendRoute("GET", "/client/sign_ins/{sign_in_id}", "getSignIn", get),
    FrontendRoute(
        "POST", "/client/sign_ins/{sign_in_id}/prepare_first_factor", "prepareSignInFactorOne", prepare_first
    ),
    FrontendRoute(
        "POST", "/client/sign_ins/{sign_in_id}/attempt_first_factor", "attemptSignInFactorOne", attempt_first
    ),
    FrontendRoute(
        "POST", "/client/sign_ins/{sign_in_id}/prepare_second_factor", "prepareSignInFactorTwo", prepare_second
    ),
    FrontendRoute(
        "POST", "/client/sign_ins/{sign_in_id}/attempt_second_factor", "attemptSignInFactorTwo", attempt_second
    ),
    FrontendRoute("POST", "/client/sign_ins/{sign_in_id}/reset_password", "resetPassword", reset_password),
)
