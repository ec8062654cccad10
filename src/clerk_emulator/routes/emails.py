"""E-mail addresses: create, get, change, delete, and proving them."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import emails, users
from clerk_emulator.state.model import EmailAddress
from clerk_emulator.wire import forms, people

FLAG = forms.nullable(forms.flag)
CHANGES = {"verified": FLAG, "primary": FLAG, "notify_primary_email_address_changed": FLAG}
CREATE = forms.Form(
    CHANGES | {"user_id": forms.text, "email_address": forms.text},
    required=("user_id", "email_address"),
    strict=False,
)
UPDATE = forms.Form(CHANGES, strict=False)
ATTEMPT = forms.Form({"verification_id": forms.text, "code": forms.text}, required=("verification_id", "code"))


def create(call: Call) -> Any:
    """Add an address to a user."""
    fields = CREATE.read(call.body)
    user = users.get(call.instance, fields["user_id"])
    made = emails.create(
        call.instance,
        user,
        fields["email_address"],
        is_verified=bool(fields.get("verified")),
        is_primary=bool(fields.get("primary")),
    )
    if fields.get("primary") and fields.get("notify_primary_email_address_changed"):
        emails.announce_primary(call.instance, user)
    return people.email_address(made)


def get(call: Call) -> Any:
    """Answer one address."""
    return people.email_address(_email(call))


def update(call: Call) -> Any:
    """Verify an address or make it primary."""
    fields = UPDATE.read(call.body)
    changed = emails.update(
        call.instance, _email(call), is_verified=fields.get("verified"), is_primary=fields.get("primary")
    )
    if fields.get("primary") and fields.get("notify_primary_email_address_changed"):
        emails.announce_primary(call.instance, users.get(call.instance, changed.user_id))
    return people.email_address(changed)


def delete(call: Call) -> Any:
    """Take an address away."""
    email = _email(call)
    emails.delete(call.instance, email)
    return people.deleted("email_address", email.id)


def prepare(call: Call) -> Any:
    """Start a proof by code."""
    return people.verification(emails.prepare(call.instance, _email(call)))


def attempt(call: Call) -> Any:
    """Try a code."""
    email = _email(call)
    fields = ATTEMPT.read(call.body)
    tried = emails.attempt(call.instance, email, fields["verification_id"], fields["code"])
    return people.verification(tried)


def _email(call: Call) -> EmailAddress:
    return emails.get(call.instance, call.params["email_address_id"])


HANDLERS: dict[str, Handler] = {
    "CreateEmailAddress": create,
    "GetEmailAddress": get,
    "UpdateEmailAddress": update,
    "DeleteEmailAddress": delete,
    "PrepareEmailAddressVerification": prepare,
    "AttemptEmailAddressVerification": attempt,
}
