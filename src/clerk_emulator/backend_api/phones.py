"""Backend API: phone numbers and their verification."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import phones, users
from clerk_emulator.state.emails import STATUSES
from clerk_emulator.state.models import PhoneNumber
from clerk_emulator.wire import user_json, validation

FLAG = validation.nullable(validation.flag)
CHANGES = {"verified": FLAG, "primary": FLAG, "reserved_for_second_factor": FLAG}
CREATE = validation.BodySchema(
    CHANGES | {"user_id": validation.text, "phone_number": validation.text},
    required=("user_id", "phone_number"),
    strict=False,
)
UPDATE = validation.BodySchema(CHANGES, strict=False)
ATTEMPT = validation.BodySchema(
    {"verification_id": validation.text, "code": validation.text}, required=("verification_id", "code")
)
REPLACE = validation.BodySchema(
    {"phone_number": validation.text, "identification_status": validation.choice(*STATUSES)}, required=("phone_number",)
)


def create(call: BackendCall) -> Any:
    """Add a phone number to a user."""
    fields = CREATE.read(call.body)
    user = users.get(call.instance, fields["user_id"])
    created = phones.create(
        call.instance,
        user,
        fields["phone_number"],
        is_verified=bool(fields.get("verified")),
        is_primary=bool(fields.get("primary")),
    )
    if fields.get("reserved_for_second_factor"):
        created.is_second_factor = True
    return user_json.phone_number(created)


def get(call: BackendCall) -> Any:
    """Return a phone number."""
    return user_json.phone_number(_get_phone(call))


def update(call: BackendCall) -> Any:
    """Verify a phone number, make it primary or a second factor."""
    fields = UPDATE.read(call.body)
    changed = phones.update(
        call.instance,
        _get_phone(call),
        is_verified=fields.get("verified"),
        is_primary=fields.get("primary"),
        is_second_factor=fields.get("reserved_for_second_factor"),
    )
    return user_json.phone_number(changed)


def delete(call: BackendCall) -> Any:
    """Delete a phone number."""
    phone = _get_phone(call)
    phones.delete(call.instance, phone)
    return user_json.deleted_object("phone_number", phone.id)


def replace(call: BackendCall) -> Any:
    """Replace all phone numbers of a user by one."""
    user = users.get(call.instance, call.params["user_id"])
    fields = REPLACE.read(call.body)
    status = fields.get("identification_status", "verified")
    return user_json.phone_number(phones.replace_all(call.instance, user, fields["phone_number"], status))


def prepare_verification(call: BackendCall) -> Any:
    """Start a verification and send its code."""
    return user_json.verification(phones.prepare_verification(call.instance, _get_phone(call)))


def attempt_verification(call: BackendCall) -> Any:
    """Check a verification code."""
    phone = _get_phone(call)
    fields = ATTEMPT.read(call.body)
    return user_json.verification(
        phones.attempt_verification(call.instance, phone, fields["verification_id"], fields["code"])
    )


def _get_phone(call: BackendCall) -> PhoneNumber:
    return phones.get(call.instance, call.params["phone_number_id"])


HANDLERS: dict[str, BackendHandler] = {
    "CreatePhoneNumber": create,
    "GetPhoneNumber": get,
    "UpdatePhoneNumber": update,
    "DeletePhoneNumber": delete,
    "ReplaceUserPhoneNumber": replace,
    "PreparePhoneNumberVerification": prepare_verification,
    "AttemptPhoneNumberVerification": attempt_verification,
}
