"""Backend API: machines, their secret keys, scopes and M2M tokens."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler, StatusResponse
from clerk_emulator.state import machines
from clerk_emulator.state.errors import ApiError, ErrorDetail
from clerk_emulator.state.models import Machine
from clerk_emulator.wire import machine_json, validation
from clerk_emulator.wire.request_parameters import iter_sorted

TTL = validation.nullable(validation.integer(1, 315_360_000))
CREATE = validation.BodySchema(
    {
        "name": validation.short_text(255),
        "scoped_machines": validation.nullable(validation.texts),
        "default_token_ttl": TTL,
    },
    required=("name",),
    strict=False,
)
UPDATE = validation.BodySchema(
    {"name": validation.nullable(validation.short_text(255)), "default_token_ttl": TTL}, strict=False
)
ROTATE = validation.BodySchema(
    {"previous_token_ttl": validation.integer(0, 28_800)}, required=("previous_token_ttl",), strict=False
)
SCOPE = validation.BodySchema({"to_machine_id": validation.text}, required=("to_machine_id",), strict=False)
ISSUE = validation.BodySchema(
    {
        "token_format": validation.nullable(validation.choice("opaque", "jwt")),
        "seconds_until_expiration": validation.nullable(validation.seconds),
        "claims": validation.anything,
        "min_remaining_ttl_seconds": validation.nullable(validation.integer(0)),
    },
    strict=False,
    status=400,
)
REVOKE = validation.BodySchema({"revocation_reason": validation.nullable(validation.text)}, strict=False, status=400)
VERIFY = validation.BodySchema({"token": validation.text}, required=("token",), strict=False, status=400)


def list_machines(call: BackendCall) -> Any:
    """List machines."""
    name, descending = call.query.order(("created_at", "name"))
    text = (call.query.text("query") or "").lower()
    rows = [row for row in call.instance.machines if text in row.name.lower() or text == row.id.lower()]
    found = iter_sorted(rows, lambda row: getattr(row, name), descending=descending)
    return call.page(found, lambda row: machine_json.machine(call.instance, row))


def create(call: BackendCall) -> Any:
    """Create a machine; only this response contains its secret key."""
    created = machines.create(call.instance, CREATE.read(call.body))
    return {**machine_json.machine(call.instance, created), "secret_key": created.secret_key}


def get(call: BackendCall) -> Any:
    """Return a machine."""
    return machine_json.machine(call.instance, _get_machine(call))


def update(call: BackendCall) -> Any:
    """Update a machine."""
    return machine_json.machine(
        call.instance, machines.update(call.instance, _get_machine(call), UPDATE.read(call.body))
    )


def delete(call: BackendCall) -> Any:
    """Delete a machine."""
    found = _get_machine(call)
    machines.delete(call.instance, found)
    return {"object": "machine", "id": found.id, "deleted": True}


def get_secret(call: BackendCall) -> Any:
    """Return the secret key of a machine."""
    return {"object": "machine_secret_key", "secret": _get_machine(call).secret_key}


def rotate_secret(call: BackendCall) -> Any:
    """Rotate the secret key of a machine."""
    found, seconds = _get_machine(call), ROTATE.read(call.body)["previous_token_ttl"]
    return {"object": "machine_secret_key", "secret": machines.rotate_secret(call.instance, found, seconds)}


def create_scope(call: BackendCall) -> Any:
    """Allow two machines to communicate."""
    found = _get_machine(call)
    other = machines.get(call.instance, SCOPE.read(call.body)["to_machine_id"])
    return machine_json.machine_scope(found, other, created_at=machines.create_scope(call.instance, found, other))


def delete_scope(call: BackendCall) -> Any:
    """Disallow two machines to communicate."""
    found, other = _get_machine(call), machines.get(call.instance, call.params["other_machine_id"])
    machines.delete_scope(found, other)
    return machine_json.machine_scope(found, other, deleted=True)


def create_token(call: BackendCall) -> Any:
    """Create a token for the calling machine."""
    if call.machine is None:
        message = "A machine requests its token with its own secret key."
        raise ApiError(400, ErrorDetail("platform_api_auth_strategy_not_allowed", "not a machine", message))
    fields = ISSUE.read(call.body)
    if fields.get("token_format") == "jwt":
        seconds = fields.get("seconds_until_expiration") or call.machine.default_token_ttl
        body = machine_json.signed_token(call.instance, call.machine, call.site, fields.get("claims"), seconds)
        return StatusResponse(201, body)
    token = machines.create_token(call.instance, call.machine, fields)
    return StatusResponse(201, {**machine_json.machine_token(call.instance, token), "token": token.secret})


def list_tokens(call: BackendCall) -> Any:
    """List the tokens of a machine."""
    subject = call.query.text("subject") or ""
    if call.machine is not None and subject != call.machine.id:
        raise ApiError(400, ErrorDetail("form_param_value_invalid", "not yours", "A machine sees only its own tokens."))
    now, revoked, expired = call.instance.now, call.query.flag("revoked"), call.query.flag("expired")
    found = [
        row
        for row in call.instance.machine_tokens.newest_first()
        if row.subject == subject and (not row.is_revoked or revoked) and (not row.is_expired(now) or expired)
    ]
    page = [machine_json.machine_token(call.instance, row) for row in call.query.page(found)]
    return {"m2m_tokens": page, "total_count": len(found)}


def revoke_token(call: BackendCall) -> Any:
    """Revoke a token."""
    found = machines.get_token(call.instance, call.params["m2m_token_id"], call.machine)
    reason = REVOKE.read(call.body).get("revocation_reason")
    return machine_json.machine_token(call.instance, machines.revoke_token(call.instance, found, reason))


def verify_token(call: BackendCall) -> Any:
    """Return the token that is verified, or raise an ApiError."""
    found = machines.verify_token(call.instance, VERIFY.read(call.body)["token"], call.machine)
    return machine_json.machine_token(call.instance, found)


def _get_machine(call: BackendCall) -> Machine:
    return machines.get(call.instance, call.params["machine_id"])


HANDLERS: dict[str, BackendHandler] = {
    "ListMachines": list_machines,
    "CreateMachine": create,
    "GetMachine": get,
    "UpdateMachine": update,
    "DeleteMachine": delete,
    "GetMachineSecretKey": get_secret,
    "RotateMachineSecretKey": rotate_secret,
    "CreateMachineScope": create_scope,
    "DeleteMachineScope": delete_scope,
    "createM2MToken": create_token,
    "getM2MTokens": list_tokens,
    "revokeM2MToken": revoke_token,
    "verifyM2MToken": verify_token,
}
