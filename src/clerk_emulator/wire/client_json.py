"""JSON of a client with its sessions and attempts, as the Frontend API returns it."""

from typing import Any

from clerk_emulator.state import sessions
from clerk_emulator.state.auth_attempts import SignIn, SignUp
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Client, Session
from clerk_emulator.wire import auth_attempt_json, frontend_json
from clerk_emulator.wire.session_tokens import create_session_token, factor_ages
from clerk_emulator.wire.site_config import SiteConfig
from clerk_emulator.wire.user_json import public_user

JsonObject = dict[str, Any]


def client(instance: Instance, found: Client, site: SiteConfig, origin: str | None = None) -> JsonObject:
    """Return a client. Only its active session includes a token; `origin` is the one of the requesting page."""
    active, shown_sessions = sessions.active_session(instance, found), sessions.active_sessions(instance, found)
    signing_in, signing_up = _open_attempts(instance, found)
    return {
        "object": "client",
        "id": found.id,
        "sessions": [session(instance, row, site, origin, with_token=row is active) for row in shown_sessions],
        "sign_in": auth_attempt_json.sign_in(instance, signing_in) if signing_in else None,
        "sign_up": auth_attempt_json.sign_up(instance, signing_up) if signing_up else None,
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


def session(
    instance: Instance, found: Session, site: SiteConfig, origin: str | None = None, *, with_token: bool = False
) -> JsonObject:
    """Return a session with its user, and with a token if `with_token`; `origin` is the one of the requesting page."""
    person = instance.users.find(found.user_id)
    status = found.status(instance.now)
    token = (
        {"object": "token", "jwt": create_session_token(instance, found, site, origin=origin)} if with_token else None
    )
    result: JsonObject = {
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
    return {**result, "user": frontend_json.user(instance, person)} if person else result
