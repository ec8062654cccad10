"""API keys of users and organizations: list, create, get, change, revoke, verify, delete."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler, Reply
from clerk_emulator.state import api_keys, machines
from clerk_emulator.state.kinds import IssuedKey
from clerk_emulator.state.refusals import Refused, bad_parameter
from clerk_emulator.wire import forms
from clerk_emulator.wire.machines import api_key as shape

TEXT = forms.nullable(forms.text)
CHANGES = {
    "description": forms.nullable(forms.short_text(255)),
    "subject": forms.text,
    "claims": forms.anything,
    "scopes": forms.nullable(forms.texts),
    "seconds_until_expiration": forms.nullable(forms.seconds),
}
CREATE = forms.Form(
    CHANGES | {"type": forms.only("api_key"), "name": forms.text, "created_by": TEXT},
    required=("name", "subject"),
    strict=False,
    status=400,
)
UPDATE = forms.Form(CHANGES, strict=False, status=400)
REVOKE = forms.Form({"revocation_reason": TEXT}, strict=False, status=400)
VERIFY = forms.Form({"secret": forms.text}, required=("secret",), strict=False, status=400)


def list_all(call: Call) -> Any:
    """Answer a page of the keys of one subject."""
    subject, text = call.query.text("subject"), (call.query.text("query") or "").lower()
    if subject is None:
        raise Refused(400, bad_parameter("form_param_missing", "subject", "is missing"))
    with_invalid, now = call.query.flag("include_invalid"), call.instance.now
    found = [
        row
        for row in call.instance.api_keys.newest_first()
        if row.subject == subject
        and (with_invalid or not (row.is_revoked or row.is_expired(now)))
        and (text in row.name.lower() or text == row.id)
    ]
    return call.page(found, lambda row: shape(call.instance, row))


def create(call: Call) -> Any:
    """Make a key; here its secret is told."""
    made = api_keys.create(call.instance, CREATE.read(call.body))
    return Reply(201, {**shape(call.instance, made), "secret": made.secret})


def get(call: Call) -> Any:
    """Answer one key."""
    return shape(call.instance, _key(call))


def update(call: Call) -> Any:
    """Change a key."""
    return shape(call.instance, api_keys.update(call.instance, _key(call), UPDATE.read(call.body)))


def delete(call: Call) -> Any:
    """Delete a key."""
    found = _key(call)
    call.instance.api_keys.remove(found.id)
    return {"object": "api_key", "id": found.id, "deleted": True}


def get_secret(call: Call) -> Any:
    """Answer the secret of a key."""
    return {"secret": _key(call).secret}


def revoke(call: Call) -> Any:
    """Take a key back."""
    reason = REVOKE.read(call.body).get("revocation_reason")
    return shape(call.instance, machines.revoke(call.instance, _key(call), reason))


def verify(call: Call) -> Any:
    """Say whose key it is, or refuse."""
    return shape(call.instance, api_keys.verify(call.instance, VERIFY.read(call.body)["secret"]))


def _key(call: Call) -> IssuedKey:
    return api_keys.get(call.instance, call.params["apiKeyID"])


HANDLERS: dict[str, Handler] = {
    "getApiKeys": list_all,
    "createApiKey": create,
    "getApiKey": get,
    "updateApiKey": update,
    "deleteApiKey": delete,
    "getApiKeySecret": get_secret,
    "revokeApiKey": revoke,
    "verifyApiKey": verify,
}
