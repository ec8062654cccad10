"""Frontend API: sign-up attempts, step by step."""

from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, require_field
from clerk_emulator.state import sign_ups
from clerk_emulator.state.auth_attempts import SignUp
from clerk_emulator.state.errors import NotEmulatedError
from clerk_emulator.wire.auth_attempt_json import sign_up as sign_up_json

SUPPORTED_FIELDS = ("first_name", "last_name", "email_address", "password", "ticket", "locale")
UNSUPPORTED_FIELDS = ("username", "phone_number", "web3_wallet", "token")


def create(call: FrontendCall) -> Any:
    """Start a sign-up; it completes if no field is missing, as with a ticket and a password."""
    draft = _read_fields(call)
    if call.fields.flag("transfer"):
        raise NotEmulatedError("a transfer from a sign-in to a sign-up")
    attempt = sign_ups.start(call.instance, call.get_or_create_client(), draft)
    return _to_json(call, attempt, should_prepare=call.fields.text("strategy") == "email_code")


def get(call: FrontendCall) -> Any:
    """Return the attempt."""
    return sign_up_json(call.instance, _get_attempt(call))


def update(call: FrontendCall) -> Any:
    """Add missing fields."""
    attempt = _get_attempt(call)
    sign_ups.update(call.instance, attempt, _read_fields(call))
    return _to_json(call, attempt, should_prepare=call.fields.text("strategy") == "email_code")


def prepare(call: FrontendCall) -> Any:
    """Send a code to the address."""
    attempt = _get_attempt(call)
    sign_ups.prepare_verification(call.instance, attempt, _require_strategy(call))
    return sign_up_json(call.instance, attempt)


def attempt_code(call: FrontendCall) -> Any:
    """Check the code."""
    attempt = _get_attempt(call)
    sign_ups.attempt_code(call.instance, attempt, _require_strategy(call), require_field(call.fields, "code"))
    return _to_json(call, attempt)


def _get_attempt(call: FrontendCall) -> SignUp:
    return sign_ups.get(call.instance, call.find_client(), call.params["sign_up_id"])


def _require_strategy(call: FrontendCall) -> str:
    found = require_field(call.fields, "strategy")
    if found != "email_code":
        raise NotEmulatedError(f"the verification strategy {found}")
    return found


def _read_fields(call: FrontendCall) -> dict[str, Any]:
    fields = call.fields
    strategy = fields.text("strategy")
    if strategy not in (None, "ticket", "email_code"):
        raise NotEmulatedError(f"the sign-up strategy {strategy}")
    for name in UNSUPPORTED_FIELDS:
        if fields.text(name):
            raise NotEmulatedError(f"the sign-up parameter {name}")
    if strategy == "ticket":
        require_field(fields, "ticket")
    draft: dict[str, Any] = {name: fields.text(name) for name in SUPPORTED_FIELDS}
    draft["email_address"] = draft["email_address"] or fields.text("email_address_or_phone_number")
    return {
        **draft,
        "unsafe_metadata": fields.mapping("unsafe_metadata"),
        "legal_accepted": fields.flag("legal_accepted"),
    }


def _to_json(call: FrontendCall, attempt: SignUp, *, should_prepare: bool = False) -> Any:
    if should_prepare and attempt.unverified_fields:
        sign_ups.prepare_verification(call.instance, attempt, "email_code")
    call.record_origin(attempt.session_id)
    return sign_up_json(call.instance, attempt)


ROUTES = (
    FrontendRoute("POST", "/client/sign_ups", "createSignUps", create),
    FrontendRoute("GET", "/client/sign_ups/{sign_up_id}", "getSignUps", get),
    FrontendRoute("PATCH", "/client/sign_ups/{sign_up_id}", "updateSignUps", update),
    FrontendRoute("POST", "/client/sign_ups/{sign_up_id}/prepare_verification", "prepareSignUpsVerification", prepare),
    FrontendRoute(
        "POST", "/client/sign_ups/{sign_up_id}/attempt_verification", "attemptSignUpsVerification", attempt_code
    ),
)
