"""Tokens by template: shortcodes such as `{{user.id}}` filled in, then signed."""

import re
from typing import Any

from clerk_emulator.state import memberships
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.kinds import JwtTemplate
from clerk_emulator.state.model import Session
from clerk_emulator.wire import organizations, people
from clerk_emulator.wire.omission import claims_left
from clerk_emulator.wire.site import Site
from clerk_emulator.wire.tokens import authorized_party

CODE = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
LEEWAY = 10


def template_token(
    instance: Instance,
    session: Session,
    site: Site,
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
    fixed = claims_left(instance.settings, fixed)
    return site.keyring.sign({**filled(template.claims, _scope(instance, session)), **fixed})


def filled(claims: Any, scope: dict[str, Any]) -> Any:
    """Return claims with their shortcodes filled in; what there is nothing for becomes null."""
    if isinstance(claims, dict):
        return {name: filled(value, scope) for name, value in claims.items()}
    if isinstance(claims, list):
        return [filled(value, scope) for value in claims]
    if not isinstance(claims, str):
        return claims
    whole = CODE.fullmatch(claims)
    if whole:
        return _value(whole.group(1), scope)
    return CODE.sub(lambda found: str(_value(found.group(1), scope) or ""), claims)


def _value(expression: str, scope: dict[str, Any]) -> Any:
    """Return the first of the alternatives (`a || b`) that says something."""
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


def _scope(instance: Instance, session: Session) -> dict[str, Any]:
    user = instance.users.find(session.user_id)
    organization = instance.organizations.find(session.last_active_organization_id)
    scope: dict[str, Any] = {"session": {"id": session.id, "actor": session.actor}}
    if user is not None:
        primary = user.primary_email
        names = " ".join(part for part in (user.first_name, user.last_name) if part)
        scope["user"] = {
            **people.user(instance, user),
            "full_name": names or None,
            "primary_email_address": primary.email_address if primary else None,
            "email_verified": bool(primary and primary.status == "verified"),
        }
    if organization is not None and user is not None:
        member = memberships.find(instance, organization.id, user.id)
        scope["org"] = {
            **organizations.organization(instance, organization, counts=False),
            "role": member.role if member else None,
        }
        if member is not None:
            scope["org_membership"] = organizations.membership(instance, member)
    return scope
