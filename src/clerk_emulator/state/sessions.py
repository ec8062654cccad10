"""Sessions and clients: start, end, activate and expire."""

from typing import Any

from clerk_emulator.state import memberships, passwords
from clerk_emulator.state.emails import find_owner
from clerk_emulator.state.errors import ApiError, ErrorDetail, not_a_member_error, not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Client, Session, User

DAY = 24 * 60 * 60 * 1000
END_EVENTS = {"revoked": "session.revoked", "ended": "session.ended", "removed": "session.removed"}


def get(instance: Instance, session_id: str) -> Session:
    """Return a session, or raise an ApiError."""
    session = instance.sessions.find(session_id)
    if session is None:
        raise not_found_error("session", session_id)
    return session


def create_client(instance: Instance) -> Client:
    """Create a client."""
    now = instance.now
    client = Client(id=instance.ids.new("client"), token=instance.ids.secret("dvb_"), created_at=now, updated_at=now)
    insert_client(instance, client)
    return client


def insert_client(instance: Instance, client: Client) -> None:
    """Add a client to its indexes."""
    instance.clients[client.id] = client
    instance.client_tokens[client.token] = client.id


def find_client(instance: Instance, token: str | None) -> Client | None:
    """Return the client with this token."""
    return instance.clients.get(instance.client_tokens.get(token or "", ""))


def active_session(instance: Instance, client: Client | None) -> Session | None:
    """Return the active session of a client, or None."""
    session = instance.sessions.find(client.active_session_id) if client else None
    return session if session is not None and session.status(instance.now) == "active" else None


def active_sessions(instance: Instance, client: Client) -> list[Session]:
    """Return all active sessions of a client; more than one only with `multi_session`."""
    found = map(instance.sessions.find, client.session_ids)
    return [one for one in found if one is not None and one.status(instance.now) == "active"]


def require_can_add_session(instance: Instance, client: Client, user: User | None = None) -> None:
    """Reject a second user in a single-session client, and one who is already signed in there."""
    active = active_sessions(instance, client)
    if active and not instance.settings.multi_session:
        message = "Another user is signed in in this browser, and only one session is allowed."
        raise ApiError(400, ErrorDetail("session_exists", "already signed in", message))
    if user is not None and any(one.user_id == user.id for one in active):
        message = "This user is already signed in in this browser."
        raise ApiError(400, ErrorDetail("identifier_already_signed_in", "already signed in", message))


def list_by_user(instance: Instance, user_id: str) -> list[Session]:
    """Return all sessions of a user, newest first."""
    found = map(instance.sessions.find, instance.user_sessions.of(user_id).ids())
    return [session for session in found if session is not None]


def require_can_sign_in(instance: Instance, user: User) -> None:
    """Reject a banned, deprovisioned or locked user."""
    if user.banned:
        raise ApiError(403, ErrorDetail("user_banned", "banned", "This user is banned."))
    if user.deprovisioned:
        raise ApiError(401, ErrorDetail("deprovisioned", "deprovisioned", "A directory has deactivated this account."))
    if user.is_locked(instance.now):
        raise ApiError(403, ErrorDetail("user_locked", "locked", "This user is temporarily locked."))


def check_credentials(instance: Instance, address: str, password: str) -> User:
    """Return the user with this address and password, or raise an ApiError."""
    user = find_owner(instance, address)
    if user is None:
        raise ApiError(422, ErrorDetail("form_identifier_not_found", "unknown", "No user has this address."))
    if user.password is None or not passwords.verify_password(user.password, password):
        raise ApiError(422, ErrorDetail("form_password_incorrect", "wrong password", "The password is incorrect."))
    if user.is_password_compromised:
        message = "This password may be compromised. Sign in another way."
        raise ApiError(422, ErrorDetail("form_password_compromised", "compromised", message))
    return user


def start(
    instance: Instance,
    user: User,
    client: Client,
    *,
    organization_id: str | None = None,
    actor: dict[str, Any] | None = None,
) -> Session:
    """Start a session and publish the event. The newest membership's organization is active unless one is given."""
    require_can_sign_in(instance, user)
    if organization_id is not None and memberships.find(instance, organization_id, user.id) is None:
        raise not_a_member_error()
    old = active_session(instance, client)
    same = next((one for one in active_sessions(instance, client) if one.user_id == user.id), None)
    if same is not None:
        client.active_session_id = same.id
        return same
    if old is not None and not instance.settings.multi_session:
        old.settled = "replaced"
        instance.touch(old)
    now = instance.now
    if organization_id is None:
        newest = next(iter(memberships.list_by_user(instance, user.id)), None)
        organization_id = newest.organization_id if newest else None
    session = Session(
        id=instance.ids.new("sess"),
        user_id=user.id,
        client_id=client.id,
        last_active_organization_id=organization_id,
        actor=actor,
        factor_verified_at=now,
        last_active_at=now,
        expire_at=now + instance.settings.session_days * DAY,
        abandon_at=now + 30 * DAY,
        created_at=now,
        updated_at=now,
    )
    insert_record(instance, session)
    client.session_ids.append(session.id)
    client.active_session_id = session.id
    user.last_sign_in_at = user.last_active_at = now
    _record_client_change(instance, client)
    instance.publish("session.created", session)
    return session


def end(instance: Instance, session: Session, reason: str, *, should_publish: bool = True) -> Session:
    """End an active session and publish the event; an ended one stays as it is."""
    if session.status(instance.now) != "active":
        return session
    session.settled = reason
    client = instance.clients.get(session.client_id)
    if client is not None and client.active_session_id == session.id:
        client.active_session_id = None
        _record_client_change(instance, client)
    instance.touch(session)
    if should_publish:
        instance.publish(END_EVENTS[reason], session)
    return session


def end_all(instance: Instance, user: User, reason: str, *, should_publish: bool = True) -> None:
    """End all active sessions of a user."""
    for session in list_by_user(instance, user.id):
        end(instance, session, reason, should_publish=should_publish)


def activate(instance: Instance, session: Session) -> None:
    """Make a session the active one of its client, without an event."""
    client = instance.clients.get(session.client_id)
    if client is not None and client.active_session_id != session.id:
        client.active_session_id = session.id
        _record_client_change(instance, client)
    instance.touch(session)
    record_activity(instance, session)


def delete_client(instance: Instance, client: Client) -> None:
    """Delete a client without sessions."""
    instance.client_tokens.pop(client.token, None)
    instance.clients.pop(client.id, None)


def record_activity(instance: Instance, session: Session) -> None:
    """Record the use of a session, without an event."""
    session.last_active_at = instance.now
    user = instance.users.find(session.user_id)
    if user is not None:
        user.last_active_at = instance.now


def get_refresh_token(instance: Instance, session: Session) -> str:
    """Return the token by which an application's server refreshes a session; created when first requested."""
    session.refresh_token = session.refresh_token or instance.ids.secret("rt_")
    return session.refresh_token


def insert_record(instance: Instance, session: Session) -> None:
    """Add a session to the table and its index."""
    instance.user_sessions.add(session.user_id, instance.sessions.add(session))


def _record_client_change(instance: Instance, client: Client) -> None:
    client.changed_at_wall = instance.clock.wall() // 1000
    instance.touch(client)
