"""Templates of tokens: list, create, get, change, delete."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import templates
from clerk_emulator.state.kinds import JwtTemplate
from clerk_emulator.wire import access, forms
from clerk_emulator.wire.people import deleted

FORM = forms.Form(
    {
        "name": forms.text,
        "claims": forms.mapping,
        "lifetime": forms.nullable(forms.integer(30, 315_360_000)),
        "allowed_clock_skew": forms.nullable(forms.integer(0, 300)),
        "custom_signing_key": forms.absent,
        "signing_algorithm": forms.only("RS256"),
        "signing_key": forms.absent,
    },
    required=("name", "claims"),
    strict=False,
)


def list_all(call: Call) -> Any:
    """Answer a page of templates."""
    return call.bare_page(call.instance.jwt_templates.newest_first(), access.jwt_template)


def create(call: Call) -> Any:
    """Make a template."""
    return access.jwt_template(templates.create(call.instance, FORM.read(call.body)))


def get(call: Call) -> Any:
    """Answer one template."""
    return access.jwt_template(_template(call))


def update(call: Call) -> Any:
    """Change a template."""
    return access.jwt_template(templates.update(call.instance, _template(call), FORM.read(call.body)))


def delete(call: Call) -> Any:
    """Delete a template."""
    found = _template(call)
    call.instance.jwt_templates.remove(found.id)
    return deleted("jwt_template", found.id)


def _template(call: Call) -> JwtTemplate:
    return templates.get(call.instance, call.params["template_id"])


HANDLERS: dict[str, Handler] = {
    "ListJWTTemplates": list_all,
    "CreateJWTTemplate": create,
    "GetJWTTemplate": get,
    "UpdateJWTTemplate": update,
    "DeleteJWTTemplate": delete,
}
