"""JSON of sessions and clients, as the Backend API returns them."""

from typing import Any

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Client, Session

JsonObject = dict[str, Any]


def session(instance: Instance, found: Session) -> JsonObject:
    """Return a session."""
    return {
        "object": "session",
        "id": found.id,
        "user_id": found.user_id,
        "client_id": found.client_id,
        "actor": found.actor,
        "status": found.status(instance.now),
        "last_active_organization_id": found.last_active_organization_id,
        "last_active_at": found.last_active_at,
        "expire_at": found.expire_at,
        "abandon_at": found.abandon_at,
        "updated_at": found.updated_at,
        "created_at": found.created_at,
    }


def client(instance: Instance, found: Client) -> JsonObject:
    """Return a client with its sessions."""
    sessions = [row for row in map(instance.sessions.find, found.session_ids) if row is not None]
    return {
        "object": "client",
        "id": found.id,
        "session_ids": found.session_ids,
        "sessions": [session(instance, row) for row in sessions],
        "sign_in_id": None,
        "sign_up_id": None,
        "last_active_session_id": found.active_session_id,
        "last_authentication_strategy": None,
        "updated_at": found.updated_at,
        "created_at": found.created_at,
    }
