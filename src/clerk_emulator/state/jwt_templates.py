"""JWT templates."""

from typing import Any

from clerk_emulator.state.errors import ApiError, ErrorDetail, identifier_exists_error, not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import JwtTemplate

RESERVED_CLAIMS = ("azp", "exp", "iat", "iss", "jti", "nbf", "sid", "sub")


def get(instance: Instance, template_id: str) -> JwtTemplate:
    """Return a template by its id, or raise an ApiError."""
    found = instance.jwt_templates.find(template_id)
    if found is None:
        raise not_found_error("JWT template", template_id)
    return found


def get_by_name(instance: Instance, name: str) -> JwtTemplate:
    """Return a template by its name, or raise an ApiError."""
    found = next((row for row in instance.jwt_templates if row.name == name), None)
    if found is None:
        raise not_found_error("JWT template", name)
    return found


def create(instance: Instance, draft: dict[str, Any]) -> JwtTemplate:
    """Create a template."""
    _validate(instance, draft)
    now = instance.now
    created = JwtTemplate(
        id=instance.ids.new("jtmp"), name=draft["name"], claims=draft["claims"], created_at=now, updated_at=now
    )
    _apply(created, draft)
    instance.jwt_templates.add(created)
    return created


def update(instance: Instance, template: JwtTemplate, changes: dict[str, Any]) -> JwtTemplate:
    """Update a template."""
    _validate(instance, changes, exclude=template)
    template.name, template.claims = changes["name"], changes["claims"]
    _apply(template, changes)
    instance.touch(template)
    return template


def _validate(instance: Instance, draft: dict[str, Any], exclude: JwtTemplate | None = None) -> None:
    if any(row.name == draft["name"] and row is not exclude for row in instance.jwt_templates):
        raise identifier_exists_error("name")
    reserved = next((name for name in draft["claims"] if name in RESERVED_CLAIMS), None)
    if reserved:
        message = f"The claim {reserved} is reserved."
        raise ApiError(400, ErrorDetail("jwt_template_reserved_claim", "reserved claim", message))


def _apply(template: JwtTemplate, draft: dict[str, Any]) -> None:
    for name in ("lifetime", "allowed_clock_skew"):
        if draft.get(name) is not None:
            setattr(template, name, draft[name])
