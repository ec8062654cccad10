"""A browser with its sessions and what goes on in it, as Clerk's scripts keep it."""

from typing import Any

from clerk_emulator.state import sessions
from clerk_emulator.state.attempts import SignIn, SignUp
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import Client, Session
from clerk_emulator.wire import attempts, front
from clerk_emulator.wire.people import public_user
from clerk_emulator.wire.site import Site
from clerk_emulator.wire.tokens import factor_ages, session_token

Json = dict[str, Any]


def client(instance: Instance, found: Client, site: Site) -> Json:
    """Return a browser. Only the session that is active here brings a token."""
    active, shown = sessions.active_session(instance, found), sessions.active_sessions(instance, found)
    signing_in, signing_up = _open_attempts(instance, found)
    return {
        "object": "client",
        "id": found.id,
        "sessions": [session(instance, row, site, with_token=row is active) for row in shown],
        "sign_in": attempts.sign_in(instance, signing_in) if signing_in else None,
        "sign_up": attempts.sign_up(instance, signing_up) if signing_up else None,
        "last_active_session_id": active.id if active else None,
        "last_authentication_strategy": found.last_strategy,
        "cookie_expires_at": None,
        "captcha_bypass": False,
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }


def _open_attempts(instance: Instance, found: Client) -> tuple[SignIn | None, SignUp | None]:
    signing_in, signing_up = instance.sign_ins.find(found.sign_in_id), instance.sign_ups.find(found.sign_up_id)
    now = instance.now
    return (
        signing_in if signing_in is not None and signing_in.abandon_at > now else None,
        signing_up if signing_up is not None and signing_up.abandon_at > now else None,
    )


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
        "public_user_data": public_user(instance, person) if person else None,
        "factor_verification_age": factor_ages(instance, found),
        "created_at": found.created_at,
        "updated_at": found.updated_at,
    }
    return {**shape, "user": front.user(instance, person)} if person else shape
