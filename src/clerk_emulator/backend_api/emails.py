"""Backend API: email addresses and their verification."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import emails, users
from clerk_emulator.state.models import EmailAddress
from clerk_emulator.wire import user_json, validation

FLAG = validation.nullable(validation.flag)
CHANGES = {"verified": FLAG, "primary": FLAG, "notify_primary_email_address_changed": FLAG}
CREATE = validation.BodySchema(
    CHANGES | {"user_id": validation.text, "email_address": validation.text},
    required=("user_id", "email_address"),
    strict=False,
)
UPDATE = validation.BodySchema(CHANGES, strict=False)
ATTEMPT = validation.BodySchema(
    {"verification_id": validation.text, "code": validation.text}, required=("verification_id", "code")
)


def create(call: BackendCall) -> Any:
    """Add an email address to a user."""
    fields = CREATE.read(call.body)
    user = users.get(call.instance, fields["user_id"])
    created = emails.create(
        call.instance,
        user,
        fields["email_address"],
        is_verified=bool(fields.get("verified")),
        is_primary=bool(fields.get("primary")),
    )
    if fields.get("primary") and fields.get("notify_primary_email_address_changed"):
        emails.notify_primary_changed(call.instance, user)
    return user_json.email_address(created)


def get(call: BackendCall) -> Any:
    """Return an email address."""
    return user_json.email_address(_get_email(call))


def update(call: BackendCall) -> Any:
    """Verify an email address or make it primary."""
    fields = UPDATE.read(call.body)
    changed = emails.update(
        call.instance, _get_email(call), is_verified=fields.get("verified"), is_primary=fields.get("primary")
    )
    if fields.get("primary") and fields.get("notify_primary_email_address_changed"):
        emails.notify_primary_changed(call.instance, users.get(call.instance, changed.user_id))
    return user_json.email_address(changed)


def delete(call: BackendCall) -> Any:
    """Delete an email address."""
    email = _get_email(call)
    emails.delete(call.instance, email)
    return user_json.deleted_object("email_address", email.id)


def prepare_verification(call: BackendCall) -> Any:
    """Start a verification and send its code."""
    return user_json.verification(emails.prepare_verification(call.instance, _get_email(call)))


def attempt_verification(call: BackendCall) -> Any:
    """Check a verification code."""
    email = _get_email(call)
    fields = ATTEMPT.read(call.body)
    tried = emails.attempt_verification(call.instance, email, fields["verification_id"], fields["code"])
    return user_json.verification(tried)


def _get_email(call: BackendCall) -> EmailAddress:
    return emails.get(call.instance, call.params["email_address_id"])


HANDLERS: dict[str, BackendHandler] = {
    "CreateEmailAddress": create,
    "GetEmailAddress": get,
    "UpdateEmailAddress": update,
    "DeleteEmailAddress": delete,
    "PrepareEmailAddressVerification": prepare_verification,
    "AttemptEmailAddressVerification": attempt_verification,
}
