"""Machines: list, create, get, change, delete, their keys, whom they may talk to, and their tokens."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler, Reply
from clerk_emulator.state import machines
from clerk_emulator.state.kinds import Machine
from clerk_emulator.state.refusals import Problem, Refused
from clerk_emulator.wire import forms
from clerk_emulator.wire import machines as shapes
from clerk_emulator.wire.queries import ordered

TTL = forms.nullable(forms.integer(1, 315_360_000))
CREATE = forms.Form(
    {"name": forms.short_text(255), "scoped_machines": forms.nullable(forms.texts), "default_token_ttl": TTL},
    required=("name",),
    strict=False,
)
UPDATE = forms.Form({"name": forms.nullable(forms.short_text(255)), "default_token_ttl": TTL}, strict=False)
ROTATE = forms.Form({"previous_token_ttl": forms.integer(0, 28_800)}, required=("previous_token_ttl",), strict=False)
SCOPE = forms.Form({"to_machine_id": forms.text}, required=("to_machine_id",), strict=False)
ISSUE = forms.Form(
    {
        "token_format": forms.nullable(forms.choice("opaque", "jwt")),
        "seconds_until_expiration": forms.nullable(forms.seconds),
        "claims": forms.anything,
        "min_remaining_ttl_seconds": forms.nullable(forms.integer(0)),
    },
    strict=False,
    status=400,
)
REVOKE = forms.Form({"revocation_reason": forms.nullable(forms.text)}, strict=False, status=400)
VERIFY = forms.Form({"token": forms.text}, required=("token",), strict=False, status=400)


def list_all(call: Call) -> Any:
    """Answer a page of machines."""
    name, descending = call.query.order(("created_at", "name"))
    text = (call.query.text("query") or "").lower()
    rows = [row for row in call.instance.machines if text in row.name.lower() or text == row.id.lower()]
    found = ordered(rows, lambda row: getattr(row, name), descending=descending)
    return call.page(found, lambda row: shapes.machine(call.instance, row))


def create(call: Call) -> Any:
    """Make a machine; here its secret key is told."""
    made = machines.create(call.instance, CREATE.read(call.body))
    return {**shapes.machine(call.instance, made), "secret_key": made.secret_key}


def get(call: Call) -> Any:
    """Answer one machine."""
    return shapes.machine(call.instance, _machine(call))


def update(call: Call) -> Any:
    """Change a machine."""
    return shapes.machine(call.instance, machines.update(call.instance, _machine(call), UPDATE.read(call.body)))


def delete(call: Call) -> Any:
    """Delete a machine."""
    found = _machine(call)
    machines.delete(call.instance, found)
    return {"object": "machine", "id": found.id, "deleted": True}


def get_secret(call: Call) -> Any:
    """Answer the secret key of a machine."""
    return {"object": "machine_secret_key", "secret": _machine(call).secret_key}


def rotate_secret(call: Call) -> Any:
    """Give a machine another secret key."""
    found, seconds = _machine(call), ROTATE.read(call.body)["previous_token_ttl"]
    return {"object": "machine_secret_key", "secret": machines.rotate(call.instance, found, seconds)}


def connect(call: Call) -> Any:
    """Let two machines talk to each other."""
    found = _machine(call)
    other = machines.get(call.instance, SCOPE.read(call.body)["to_machine_id"])
    return shapes.machine_scope(found, other, created_at=machines.connect(call.instance, found, other))


def disconnect(call: Call) -> Any:
    """Take that back."""
    found, other = _machine(call), machines.get(call.instance, call.params["other_machine_id"])
    machines.disconnect(found, other)
    return shapes.machine_scope(found, other, deleted=True)


def issue(call: Call) -> Any:
    """Make a token for the machine that asks."""
    if call.machine is None:
        words = "A machine asks for its token by its own secret key."
        raise Refused(400, Problem("platform_api_auth_strategy_not_allowed", "not a machine", words))
    fields = ISSUE.read(call.body)
    if fields.get("token_format") == "jwt":
        seconds = fields.get("seconds_until_expiration") or call.machine.default_token_ttl
        body = shapes.signed_token(call.instance, call.machine, call.site, fields.get("claims"), seconds)
        return Reply(201, body)
    token = machines.issue(call.instance, call.machine, fields)
    return Reply(201, {**shapes.machine_token(call.instance, token), "token": token.secret})


def list_tokens(call: Call) -> Any:
    """Answer a page of the tokens of a machine."""
    subject = call.query.text("subject") or ""
    if call.machine is not None and subject != call.machine.id:
        raise Refused(400, Problem("form_param_value_invalid", "not yours", "A machine sees its own tokens only."))
    now, revoked, expired = call.instance.now, call.query.flag("revoked"), call.query.flag("expired")
    found = [
        row
        for row in call.instance.machine_tokens.newest_first()
        if row.subject == subject and (not row.is_revoked or revoked) and (not row.is_expired(now) or expired)
    ]
    page = [shapes.machine_token(call.instance, row) for row in call.query.page(found)]
    return {"m2m_tokens": page, "total_count": len(found)}


def revoke_token(call: Call) -> Any:
    """Take a token back."""
    found = machines.get_token(call.instance, call.params["m2m_token_id"], call.machine)
    reason = REVOKE.read(call.body).get("revocation_reason")
    return shapes.machine_token(call.instance, machines.revoke(call.instance, found, reason))


def verify_token(call: Call) -> Any:
    """Say whose token it is, or refuse."""
    found = machines.verify(call.instance, VERIFY.read(call.body)["token"], call.machine)
    return shapes.machine_token(call.instance, found)


def _machine(call: Call) -> Machine:
    return machines.get(call.instance, call.params["machine_id"])


HANDLERS: dict[str, Handler] = {
    "ListMachines": list_all,
    "CreateMachine": create,
    "GetMachine": get,
    "UpdateMachine": update,
    "DeleteMachine": delete,
    "GetMachineSecretKey": get_secret,
    "RotateMachineSecretKey": rotate_secret,
    "CreateMachineScope": connect,
    "DeleteMachineScope": disconnect,
    "createM2MToken": issue,
    "getM2MTokens": list_tokens,
    "revokeM2MToken": revoke_token,
    "verifyM2MToken": verify_token,
}
