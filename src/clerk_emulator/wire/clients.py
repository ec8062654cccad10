"""A browser with its sessions and what goes on in it, as Clerk's scripts keep it."""

from typing import Any

from clerk_emulator.state import sessions
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import Client, Session
from clerk_emulator.wire import front
from clerk_emulator.wire.people import public_user
from clerk_emulator.wire.site import Site
from clerk_emulator.wire.tokens import MINUTE, session_token

Json = dict[str, Any]


def client(instance: Instance, found: Client, site: Site) -> Json:
    """Return a browser. Only the session that is active here brings a token."""
    rows = [row for row in map(instance.sessions.find, found.session_ids) if row is not None]
    active = sessions.active_session(instance, found)
    shown = [row for row in rows if row.status(instance.now) == "active"]
    return {
        "object": "client",
        "id": found.id,
        "sessions": [session(instance, row, site, with_token=row is active) for row in shown],
        "sign_in": None,
        "sign_up": None,
        "last_active_session_id": active.id if active else None,
        "last_authentication_strategy": None,
        "cookie_expires_at": None,
        "captcha_bypass": False,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def session(instance: Instance, found: Session, site: Site, *, with_token: bool = False) -> Json:
    """Return a session with its user."""
    person = instance.users.find(found.user_id)
    status = found.status(instance.now)
    token = {"object": "token", "jwt": session_token(instance, found, site)} if with_token else None
    shape: Json = {
        "object": "session",
        "id": found.id,
        "status": "ended" if status == "replaced" else status,
        "expire_at": found.expire_at,
        "abandon_at": found.abandon_at,
        "last_active_at": found.last_active_at,
        "last_active_organization_id": found.last_active_organization_id,
        "last_active_token": token,
        "actor": found.actor,
        "tasks": [],
        "public_user_data": public_user(person) if person else None,
        "factor_verification_age": [(instance.now - found.factor_verified_at) // MINUTE, -1],
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }
    return {**shape, "user": front.user(instance, person)} if person else shape
