"""Frontend API: sign-in attempts, step by step."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, require_field
from clerk_emulator.state import sessions, sign_ins
from clerk_emulator.state.auth_attempts import SignIn
from clerk_emulator.state.errors import NotEmulatedError
from clerk_emulator.wire.auth_attempt_json import sign_in as sign_in_json

SUPPORTED_STRATEGIES = ("password", "ticket", *sign_ins.CODE_STRATEGIES)


def create(call: FrontendCall) -> Any:
    """Start a sign-in; it completes immediately with a password or a ticket."""
    fields, client = call.fields, call.get_or_create_client()
    strategy = fields.text("strategy") or ("password" if fields.text("password") else None)
    if strategy not in (None, *SUPPORTED_STRATEGIES):
        raise NotEmulatedError(f"the sign-in strategy {strategy}")
    if fields.flag("transfer"):
        raise NotEmulatedError("a transfer from a sign-up to a sign-in")
    if strategy == "ticket":
        ticket = require_field(fields, "ticket")
        attempt = sign_ins.start(call.instance, client)
        sign_ins.redeem_ticket(call.instance, attempt, ticket)
        return _to_json(call, attempt)
    sessions.require_can_add_session(call.instance, client)
    identifier = fields.text("identifier")
    if identifier is None and strategy is not None:
        require_field(fields, "identifier")
    attempt = sign_ins.start(call.instance, client)
    if identifier is not None:
        sign_ins.identify(call.instance, attempt, identifier)
    if strategy == "password":
        sign_ins.attempt_password(call.instance, attempt, require_field(fields, "password"))
    elif strategy is not None:
        sign_ins.prepare_first(call.instance, attempt, strategy)
    return _to_json(call, attempt)


def get(call: FrontendCall) -> Any:
    """Return the attempt."""
    return sign_in_json(call.instance, _get_attempt(call))


def prepare_first(call: FrontendCall) -> Any:
    """Send a code."""
    strategy = _require_strategy(call, sign_ins.CODE_STRATEGIES)
    attempt = _get_attempt(call)
    sign_ins.prepare_first(call.instance, attempt, strategy, call.fields.text("email_address_id"))
    return _to_json(call, attempt)


def attempt_first(call: FrontendCall) -> Any:
    """Check a password or a code."""
    strategy = _require_strategy(call, SUPPORTED_STRATEGIES)
    attempt = _get_attempt(call)
    if strategy == "password":
        sign_ins.attempt_password(call.instance, attempt, require_field(call.fields, "password"))
    elif strategy == "ticket":
        sign_ins.redeem_ticket(call.instance, attempt, require_field(call.fields, "ticket"))
    else:
        sign_ins.attempt_code(call.instance, attempt, strategy, require_field(call.fields, "code"))
    return _to_json(call, attempt)


def prepare_second(call: FrontendCall) -> Any:
    """Send a code to a phone."""
    _require_strategy(call, ("phone_code",), default="phone_code")
    attempt = _get_attempt(call)
    sign_ins.prepare_second(call.instance, attempt, call.fields.text("phone_number_id"))
    return _to_json(call, attempt)


def attempt_second(call: FrontendCall) -> Any:
    """Check the code sent to a phone."""
    _require_strategy(call, ("phone_code",), default="phone_code")
    attempt = _get_attempt(call)
    sign_ins.attempt_second(call.instance, attempt, require_field(call.fields, "code"))
    return _to_json(call, attempt)


def reset_password(call: FrontendCall) -> Any:
    """Set a new password in place of a forgotten one."""
    attempt = _get_attempt(call)
    password, sign_out = require_field(call.fields, "password"), bool(call.fields.flag("sign_out_of_other_sessions"))
    sign_ins.reset_password(call.instance, attempt, password, sign_out=sign_out)
    return _to_json(call, attempt)


def _get_attempt(call: FrontendCall) -> SignIn:
    return sign_ins.get(call.instance, call.find_client(), call.params["sign_in_id"])


def _require_strategy(call: FrontendCall, accepted: tuple[str, ...], default: str | None = None) -> str:
    found = call.fields.text("strategy") or default or require_field(call.fields, "strategy")
    if found not in accepted:
        raise NotEmulatedError(f"the sign-in strategy {found}")
    return found


def _to_json(call: FrontendCall, attempt: SignIn) -> Any:
    call.record_origin(attempt.session_id)
    return sign_in_json(call.instance, attempt)


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
