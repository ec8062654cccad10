"""Backend API: JWT templates."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import jwt_templates
from clerk_emulator.state.models import JwtTemplate
from clerk_emulator.wire import access_json, validation
from clerk_emulator.wire.user_json import deleted_object

JWT_TEMPLATE_SCHEMA = validation.BodySchema(
    {
        "name": validation.text,
        "claims": validation.mapping,
        "lifetime": validation.nullable(validation.integer(30, 315_360_000)),
        "allowed_clock_skew": validation.nullable(validation.integer(0, 300)),
        "custom_signing_key": validation.not_emulated,
        "signing_algorithm": validation.literal("RS256"),
        "signing_key": validation.not_emulated,
    },
    required=("name", "claims"),
    strict=False,
)


def list_templates(call: BackendCall) -> Any:
    """List JWT templates."""
    return call.bare_page(call.instance.jwt_templates.newest_first(), access_json.jwt_template)


def create(call: BackendCall) -> Any:
    """Create a JWT template."""
    return access_json.jwt_template(jwt_templates.create(call.instance, JWT_TEMPLATE_SCHEMA.read(call.body)))


def get(call: BackendCall) -> Any:
    """Return a JWT template."""
    return access_json.jwt_template(_get_template(call))


def update(call: BackendCall) -> Any:
    """Update a JWT template."""
    return access_json.jwt_template(
        jwt_templates.update(call.instance, _get_template(call), JWT_TEMPLATE_SCHEMA.read(call.body))
    )


def delete(call: BackendCall) -> Any:
    """Delete a JWT template."""
    found = _get_template(call)
    call.instance.jwt_templates.remove(found.id)
    return deleted_object("jwt_template", found.id)


def _get_template(call: BackendCall) -> JwtTemplate:
    return jwt_templates.get(call.instance, call.params["template_id"])


HANDLERS: dict[str, BackendHandler] = {
    "ListJWTTemplates": list_templates,
    "CreateJWTTemplate": create,
    "GetJWTTemplate": get,
    "UpdateJWTTemplate": update,
    "DeleteJWTTemplate": delete,
}
