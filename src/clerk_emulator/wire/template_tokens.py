"""Tokens from JWT templates: fill in shortcodes and sign."""

import re
from typing import Any

from clerk_emulator.state import memberships
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import JwtTemplate, Session
from clerk_emulator.wire import organization_json, user_json
from clerk_emulator.wire.omitted_fields import remove_omitted_claims
from clerk_emulator.wire.session_tokens import authorized_party
from clerk_emulator.wire.site_config import SiteConfig

SHORTCODE = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
LEEWAY = 10


def create_template_token(
    instance: Instance,
    session: Session,
    site: SiteConfig,
    template: JwtTemplate,
    *,
    origin: str | None = None,
    lifetime: int | None = None,
) -> str:
    """Return a signed token for a session, with the claims of a template; `origin` as for a session token."""
    issued_at = instance.clock.wall() // 1000
    fixed = {
        "exp": issued_at + (lifetime or template.lifetime),
        "iat": issued_at,
        "iss": site.url,
        "jti": instance.ids.secret()[:20],
        "nbf": issued_at - max(LEEWAY, template.allowed_clock_skew),
        "sub": session.user_id,
        **authorized_party(instance, session, origin),
    }
    fixed = remove_omitted_claims(instance.settings, fixed)
    return site.keyring.sign({**fill_shortcodes(template.claims, _shortcode_values(instance, session)), **fixed})


def fill_shortcodes(claims: Any, scope: dict[str, Any]) -> Any:
    """Return claims with their shortcodes replaced; those without a value become null."""
    if isinstance(claims, dict):
        return {name: fill_shortcodes(value, scope) for name, value in claims.items()}
    if isinstance(claims, list):
        return [fill_shortcodes(value, scope) for value in claims]
    if not isinstance(claims, str):
        return claims
    whole = SHORTCODE.fullmatch(claims)
    if whole:
        return _resolve_expression(whole.group(1), scope)
    return SHORTCODE.sub(lambda found: str(_resolve_expression(found.group(1), scope) or ""), claims)


def _resolve_expression(expression: str, scope: dict[str, Any]) -> Any:
    """Return the first alternative (`a || b`) with a value."""
    for part in expression.split("||"):
        word = part.strip()
        if word[:1] in ("'", '"'):
            return word.strip("'\"")
        found: Any = scope
        for name in word.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        if found is not None:
            return found
    return None


def _shortcode_values(instance: Instance, session: Session) -> dict[str, Any]:
    user = instance.users.find(session.user_id)
    organization = instance.organizations.find(session.last_active_organization_id)
    scope: dict[str, Any] = {"session": {"id": session.id, "actor": session.actor}}
    if user is not None:
        primary = user.primary_email
        names = " ".join(part for part in (user.first_name, user.last_name) if part)
        scope["user"] = {
            **user_json.user(instance, user),
            "full_name": names or None,
            "primary_email_address": primary.email_address if primary else None,
            "email_verified": bool(primary and primary.status == "verified"),
        }
    if organization is not None and user is not None:
        member = memberships.find(instance, organization.id, user.id)
        scope["org"] = {
            **organization_json.organization(instance, organization, counts=False),
            "role": member.role if member else None,
        }
        if member is not None:
            scope["org_membership"] = organization_json.membership(instance, member)
    return scope
