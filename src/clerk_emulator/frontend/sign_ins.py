"""Signing in, step by step, as Clerk's scripts do it."""

from typing import Any

from clerk_emulator.frontend.visit import Route, Visit, require
from clerk_emulator.state import sessions, sign_ins
from clerk_emulator.state.attempts import SignIn
from clerk_emulator.state.refusals import NotEmulated
from clerk_emulator.wire.attempts import sign_in as shape

TAKEN = ("password", "ticket", *sign_ins.CODES)


def create(visit: Visit) -> Any:
    """Begin; it is complete at once where a password or a ticket came with it."""
    fields, client = visit.fields, visit.need_client()
    strategy = fields.text("strategy") or ("password" if fields.text("password") else None)
    if strategy not in (None, *TAKEN):
        raise NotEmulated(f"signing in by {strategy}")
    if fields.flag("transfer"):
        raise NotEmulated("a sign-in that goes on from a sign-up")
    if strategy == "ticket":
        ticket = require(fields, "ticket")
        attempt = sign_ins.begin(visit.instance, client)
        sign_ins.use_ticket(visit.instance, attempt, ticket)
        return _answer(visit, attempt)
    sessions.require_new_here(visit.instance, client)
    identifier = fields.text("identifier")
    if identifier is None and strategy is not None:
        require(fields, "identifier")
    attempt = sign_ins.begin(visit.instance, client)
    if identifier is not None:
        sign_ins.identify(visit.instance, attempt, identifier)
    if strategy == "password":
        sign_ins.attempt_password(visit.instance, attempt, require(fields, "password"))
    elif strategy is not None:
        sign_ins.prepare_first(visit.instance, attempt, strategy)
    return _answer(visit, attempt)


def get(visit: Visit) -> Any:
    """Answer the attempt."""
    return shape(visit.instance, _attempt(visit))


def prepare_first(visit: Visit) -> Any:
    """Send a code."""
    strategy = _strategy(visit, sign_ins.CODES)
    attempt = _attempt(visit)
    sign_ins.prepare_first(visit.instance, attempt, strategy, visit.fields.text("email_address_id"))
    return _answer(visit, attempt)


def attempt_first(visit: Visit) -> Any:
    """Take a password or a code."""
    strategy = _strategy(visit, TAKEN)
    attempt = _attempt(visit)
    if strategy == "password":
        sign_ins.attempt_password(visit.instance, attempt, require(visit.fields, "password"))
    elif strategy == "ticket":
        sign_ins.use_ticket(visit.instance, attempt, require(visit.fields, "ticket"))
    else:
        sign_ins.attempt_code(visit.instance, attempt, strategy, require(visit.fields, "code"))
    return _answer(visit, attempt)


def prepare_second(visit: Visit) -> Any:
    """Send a code to a phone."""
    _strategy(visit, ("phone_code",), default="phone_code")
    attempt = _attempt(visit)
    sign_ins.prepare_second(visit.instance, attempt, visit.fields.text("phone_number_id"))
    return _answer(visit, attempt)


def attempt_second(visit: Visit) -> Any:
    """Take the code that was sent to a phone."""
    _strategy(visit, ("phone_code",), default="phone_code")
    attempt = _attempt(visit)
    sign_ins.attempt_second(visit.instance, attempt, require(visit.fields, "code"))
    return _answer(visit, attempt)


def reset_password(visit: Visit) -> Any:
    """Take a new password in place of a forgotten one."""
    attempt = _attempt(visit)
    password, sign_out = require(visit.fields, "password"), bool(visit.fields.flag("sign_out_of_other_sessions"))
    sign_ins.set_password(visit.instance, attempt, password, sign_out=sign_out)
    return _answer(visit, attempt)


def _attempt(visit: Visit) -> SignIn:
    return sign_ins.get(visit.instance, visit.find_client(), visit.params["sign_in_id"])


def _strategy(visit: Visit, taken: tuple[str, ...], default: str | None = None) -> str:
    found = visit.fields.text("strategy") or default or require(visit.fields, "strategy")
    if found not in taken:
        raise NotEmulated(f"signing in by {found}")
    return found


def _answer(visit: Visit, attempt: SignIn) -> Any:
    visit.note_origin(attempt.session_id)
    return shape(visit.instance, attempt)


ROUTES = (
    Route("POST", "/client/sign_ins", "createSignIn", create),
    Route("GET", "/client/sign_ins/{sign_in_id}", "getSignIn", get),
    Route("POST", "/client/sign_ins/{sign_in_id}/prepare_first_factor", "prepareSignInFactorOne", prepare_first),
    Route("POST", "/client/sign_ins/{sign_in_id}/attempt_first_factor", "attemptSignInFactorOne", attempt_first),
    Route("POST", "/client/sign_ins/{sign_in_id}/prepare_second_factor", "prepareSignInFactorTwo", prepare_second),
    Route("POST", "/client/sign_ins/{sign_in_id}/attempt_second_factor", "attemptSignInFactorTwo", attempt_second),
    Route("POST", "/client/sign_ins/{sign_in_id}/reset_password", "resetPassword", reset_password),
)
