"""Signing up, step by step, as Clerk's scripts do it."""

from typing import Any

from clerk_emulator.frontend.visit import Route, Visit, require
from clerk_emulator.state import sign_ups
from clerk_emulator.state.attempts import SignUp
from clerk_emulator.state.refusals import NotEmulated
from clerk_emulator.wire.attempts import sign_up as shape

PLAIN = ("first_name", "last_name", "email_address", "password", "ticket", "locale")
NOT_TAKEN = ("username", "phone_number", "web3_wallet", "token")


def create(visit: Visit) -> Any:
    """Begin with what is known; complete where nothing is missing, as with a ticket and a password."""
    draft = _draft(visit)
    if visit.fields.flag("transfer"):
        raise NotEmulated("a sign-up that goes on from a sign-in")
    attempt = sign_ups.begin(visit.instance, visit.need_client(), draft)
    return _answer(visit, attempt, is_to_prepare=visit.fields.text("strategy") == "email_code")


def get(visit: Visit) -> Any:
    """Answer the attempt."""
    return shape(visit.instance, _attempt(visit))


def update(visit: Visit) -> Any:
    """Take what was missing."""
    attempt = _attempt(visit)
    sign_ups.update(visit.instance, attempt, _draft(visit))
    return _answer(visit, attempt, is_to_prepare=visit.fields.text("strategy") == "email_code")


def prepare(visit: Visit) -> Any:
    """Send a code to the address."""
    attempt = _attempt(visit)
    sign_ups.prepare(visit.instance, attempt, _strategy(visit))
    return shape(visit.instance, attempt)


def attempt_code(visit: Visit) -> Any:
    """Take the code."""
    attempt = _attempt(visit)
    sign_ups.attempt_code(visit.instance, attempt, _strategy(visit), require(visit.fields, "code"))
    return _answer(visit, attempt)


def _attempt(visit: Visit) -> SignUp:
    return sign_ups.get(visit.instance, visit.find_client(), visit.params["sign_up_id"])


def _strategy(visit: Visit) -> str:
    found = require(visit.fields, "strategy")
    if found != "email_code":
        raise NotEmulated(f"proving an address by {found}")
    return found


def _draft(visit: Visit) -> dict[str, Any]:
    fields = visit.fields
    strategy = fields.text("strategy")
    if strategy not in (None, "ticket", "email_code"):
        raise NotEmulated(f"signing up by {strategy}")
    for name in NOT_TAKEN:
        if fields.text(name):
            raise NotEmulated(f"signing up with the parameter {name}")
    if strategy == "ticket":
        require(fields, "ticket")
    draft: dict[str, Any] = {name: fields.text(name) for name in PLAIN}
    draft["email_address"] = draft["email_address"] or fields.text("email_address_or_phone_number")
    return {
        **draft,
        "unsafe_metadata": fields.mapping("unsafe_metadata"),
        "legal_accepted": fields.flag("legal_accepted"),
    }


def _answer(visit: Visit, attempt: SignUp, *, is_to_prepare: bool = False) -> Any:
    if is_to_prepare and attempt.unproved:
        sign_ups.prepare(visit.instance, attempt, "email_code")
    visit.note_origin(attempt.session_id)
    return shape(visit.instance, attempt)


ROUTES = (
    Route("POST", "/client/sign_ups", "createSignUps", create),
    Route("GET", "/client/sign_ups/{sign_up_id}", "getSignUps", get),
    Route("PATCH", "/client/sign_ups/{sign_up_id}", "updateSignUps", update),
    Route("POST", "/client/sign_ups/{sign_up_id}/prepare_verification", "prepareSignUpsVerification", prepare),
    Route("POST", "/client/sign_ups/{sign_up_id}/attempt_verification", "attemptSignUpsVerification", attempt_code),
)
