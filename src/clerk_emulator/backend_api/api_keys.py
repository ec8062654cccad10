"""Backend API: API keys of users and organizations."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler, StatusResponse
from clerk_emulator.state import api_keys, machines
from clerk_emulator.state.errors import ApiError, parameter_detail
from clerk_emulator.state.models import IssuedKey
from clerk_emulator.wire import validation
from clerk_emulator.wire.machine_json import api_key as api_key_json

TEXT = validation.nullable(validation.text)
CHANGES = {
    "description": validation.nullable(validation.short_text(255)),
    "subject": validation.text,
    "claims": validation.anything,
    "scopes": validation.nullable(validation.texts),
    "seconds_until_expiration": validation.nullable(validation.seconds),
}
CREATE = validation.BodySchema(
    CHANGES | {"type": validation.literal("api_key"), "name": validation.text, "created_by": TEXT},
    required=("name", "subject"),
    strict=False,
    status=400,
)
UPDATE = validation.BodySchema(CHANGES, strict=False, status=400)
REVOKE = validation.BodySchema({"revocation_reason": TEXT}, strict=False, status=400)
VERIFY = validation.BodySchema({"secret": validation.text}, required=("secret",), strict=False, status=400)


def list_api_keys(call: BackendCall) -> Any:
    """List the API keys of a subject."""
    subject, text = call.query.text("subject"), (call.query.text("query") or "").lower()
    if subject is None:
        raise ApiError(400, parameter_detail("form_param_missing", "subject", "is missing"))
    with_invalid, now = call.query.flag("include_invalid"), call.instance.now
    found = [
        row
        for row in call.instance.api_keys.newest_first()
        if row.subject == subject
        and (with_invalid or not (row.is_revoked or row.is_expired(now)))
        and (text in row.name.lower() or text == row.id)
    ]
    return call.page(found, lambda row: api_key_json(call.instance, row))


def create(call: BackendCall) -> Any:
    """Create an API key; only this response contains its secret."""
    created = api_keys.create(call.instance, CREATE.read(call.body))
    return StatusResponse(201, {**api_key_json(call.instance, created), "secret": created.secret})


def get(call: BackendCall) -> Any:
    """Return an API key."""
    return api_key_json(call.instance, _get_key(call))


def update(call: BackendCall) -> Any:
    """Update an API key."""
    return api_key_json(call.instance, api_keys.update(call.instance, _get_key(call), UPDATE.read(call.body)))


def delete(call: BackendCall) -> Any:
    """Delete an API key."""
    found = _get_key(call)
    call.instance.api_keys.remove(found.id)
    return {"object": "api_key", "id": found.id, "deleted": True}


def get_secret(call: BackendCall) -> Any:
    """Return the secret of an API key."""
    return {"secret": _get_key(call).secret}


def revoke(call: BackendCall) -> Any:
    """Revoke an API key."""
    reason = REVOKE.read(call.body).get("revocation_reason")
    return api_key_json(call.instance, machines.revoke_token(call.instance, _get_key(call), reason))


def verify(call: BackendCall) -> Any:
    """Return the API key with this secret, or raise an ApiError."""
    return api_key_json(call.instance, api_keys.verify(call.instance, VERIFY.read(call.body)["secret"]))


def _get_key(call: BackendCall) -> IssuedKey:
    return api_keys.get(call.instance, call.params["apiKeyID"])


HANDLERS: dict[str, BackendHandler] = {
    "getApiKeys": list_api_keys,
    "createApiKey": create,
    "getApiKey": get,
    "updateApiKey": update,
    "deleteApiKey": delete,
    "getApiKeySecret": get_secret,
    "revokeApiKey": revoke,
    "verifyApiKey": verify,
}
