"""Phone numbers: create, get, change, delete, replace, and proving them."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import phones, users
from clerk_emulator.state.emails import STATUSES
from clerk_emulator.state.model import PhoneNumber
from clerk_emulator.wire import forms, people

FLAG = forms.nullable(forms.flag)
CHANGES = {"verified": FLAG, "primary": FLAG, "reserved_for_second_factor": FLAG}
CREATE = forms.Form(
    CHANGES | {"user_id": forms.text, "phone_number": forms.text}, required=("user_id", "phone_number"), strict=False
)
UPDATE = forms.Form(CHANGES, strict=False)
ATTEMPT = forms.Form({"verification_id": forms.text, "code": forms.text}, required=("verification_id", "code"))
REPLACE = forms.Form(
    {"phone_number": forms.text, "identification_status": forms.choice(*STATUSES)}, required=("phone_number",)
)


def create(call: Call) -> Any:
    """Add a number to a user."""
    fields = CREATE.read(call.body)
    user = users.get(call.instance, fields["user_id"])
    made = phones.create(
        call.instance,
        user,
        fields["phone_number"],
        is_verified=bool(fields.get("verified")),
        is_primary=bool(fields.get("primary")),
    )
    if fields.get("reserved_for_second_factor"):
        made.is_second_factor = True
    return people.phone_number(made)


def get(call: Call) -> Any:
    """Answer one number."""
    return people.phone_number(_phone(call))


def update(call: Call) -> Any:
    """Verify a number, make it primary, or a second factor."""
    fields = UPDATE.read(call.body)
    changed = phones.update(
        call.instance,
        _phone(call),
        is_verified=fields.get("verified"),
        is_primary=fields.get("primary"),
        is_second_factor=fields.get("reserved_for_second_factor"),
    )
    return people.phone_number(changed)


def delete(call: Call) -> Any:
    """Take a number away."""
    phone = _phone(call)
    phones.delete(call.instance, phone)
    return people.deleted("phone_number", phone.id)


def replace(call: Call) -> Any:
    """Give a user one number instead of all."""
    user = users.get(call.instance, call.params["user_id"])
    fields = REPLACE.read(call.body)
    status = fields.get("identification_status", "verified")
    return people.phone_number(phones.replace_all(call.instance, user, fields["phone_number"], status))


def prepare(call: Call) -> Any:
    """Start a proof by code."""
    return people.verification(phones.prepare(call.instance, _phone(call)))


def attempt(call: Call) -> Any:
    """Try a code."""
    phone = _phone(call)
    fields = ATTEMPT.read(call.body)
    return people.verification(phones.attempt(call.instance, phone, fields["verification_id"], fields["code"]))


def _phone(call: Call) -> PhoneNumber:
    return phones.get(call.instance, call.params["phone_number_id"])


HANDLERS: dict[str, Handler] = {
    "CreatePhoneNumber": create,
    "GetPhoneNumber": get,
    "UpdatePhoneNumber": update,
    "DeletePhoneNumber": delete,
    "ReplaceUserPhoneNumber": replace,
    "PreparePhoneNumberVerification": prepare,
    "AttemptPhoneNumberVerification": attempt,
}
