"""Frontend API: sign-up attempts, step by step."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, require_field
from clerk_emulator.state import sign_ups
from clerk_emulator.state.auth_attempts import SignUp
from clerk_emulator.state.errors import NotEmulatedError
from clerk_emulator.wire.auth_attempt_json import sign_up as shape

SUPPORTED_FIELDS = ("first_name", "last_name", "email_address", "password", "ticket", "locale")
UNSUPPORTED_FIELDS = ("username", "phone_number", "web3_wallet", "token")


def create(visit: FrontendCall) -> Any:
    """Begin with what is known; complete where nothing is missing, as with a ticket and a password."""
    draft = _read_fields(visit)
    if visit.fields.flag("transfer"):
        raise NotEmulatedError("a sign-up that goes on from a sign-in")
    attempt = sign_ups.start(visit.instance, visit.get_or_create_client(), draft)
    return _to_json(visit, attempt, should_prepare=visit.fields.text("strategy") == "email_code")


def get(visit: FrontendCall) -> Any:
    """Answer the attempt."""
    return shape(visit.instance, _get_attempt(visit))


def update(visit: FrontendCall) -> Any:
    """Take what was missing."""
    attempt = _get_attempt(visit)
    sign_ups.update(visit.instance, attempt, _read_fields(visit))
    return _to_json(visit, attempt, should_prepare=visit.fields.text("strategy") == "email_code")


def prepare(visit: FrontendCall) -> Any:
    """Send a code to the address."""
    attempt = _get_attempt(visit)
    sign_ups.prepare_verification(visit.instance, attempt, _require_strategy(visit))
    return shape(visit.instance, attempt)


def attempt_code(visit: FrontendCall) -> Any:
    """Take the code."""
    attempt = _get_attempt(visit)
    sign_ups.attempt_code(visit.instance, attempt, _require_strategy(visit), require_field(visit.fields, "code"))
    return _to_json(visit, attempt)


def _get_attempt(visit: FrontendCall) -> SignUp:
    return sign_ups.get(visit.instance, visit.find_client(), visit.params["sign_up_id"])


def _require_strategy(visit: FrontendCall) -> str:
    found = require_field(visit.fields, "strategy")
    if found != "email_code":
        raise NotEmulatedError(f"proving an address by {found}")
    return found


def _read_fields(visit: FrontendCall) -> dict[str, Any]:
    fields = visit.fields
    strategy = fields.text("strategy")
    if strategy not in (None, "ticket", "email_code"):
        raise NotEmulatedError(f"signing up by {strategy}")
    for name in UNSUPPORTED_FIELDS:
        if fields.text(name):
            raise NotEmulatedError(f"signing up with the parameter {name}")
    if strategy == "ticket":
        require_field(fields, "ticket")
    draft: dict[str, Any] = {name: fields.text(name) for name in SUPPORTED_FIELDS}
    draft["email_address"] = draft["email_address"] or fields.text("email_address_or_phone_number")
    return {
        **draft,
        "unsafe_metadata": fields.mapping("unsafe_metadata"),
        "legal_accepted": fields.flag("legal_accepted"),
    }


def _to_json(visit: FrontendCall, attempt: SignUp, *, should_prepare: bool = False) -> Any:
    if should_prepare and attempt.unverified_fields:
        sign_ups.prepare_verification(visit.instance, attempt, "email_code")
    visit.record_origin(attempt.session_id)
    return shape(visit.instance, attempt)


ROUTES = (
    FrontendRoute("POST", "/client/sign_ups", "createSignUps", create),
    FrontendRoute("GET", "/client/sign_ups/{sign_up_id}", "getSignUps", get),
    FrontendRoute("PATCH", "/client/sign_ups/{sign_up_id}", "updateSignUps", update),
    FrontendRoute("POST", "/client/sign_ups/{sign_up_id}/prepare_verification", "prepareSignUpsVerification", prepare),
    FrontendRoute(
        "POST", "/client/sign_ups/{sign_up_id}/attempt_verification", "attemptSignUpsVerification", attempt_code
    ),
)
