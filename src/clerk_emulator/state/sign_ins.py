"""Sign-in attempts: identifier, first factor, second factor, session."""

from clerk_emulator.state import (
    access_lists,
    domain_enrollment,
    emails,
    factors,
    invitations,
    organization_invitations,
    sessions,
    sign_in_tokens,
    tickets,
    users,
)
from clerk_emulator.state.auth_attempts import LIFETIME, SignIn, store_attempt
from clerk_emulator.state.errors import ApiError, ErrorDetail, field_error, invalid_value_error, not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Client, OrganizationInvitation, Session, SignInToken, User

CODE_STRATEGIES = ("email_code", "reset_password_email_code")


def start(instance: Instance, client: Client) -> SignIn:
    """Start an attempt in a client; it replaces an older one."""
    now = instance.now
    attempt = SignIn(
        id=instance.ids.new("sia"), client_id=client.id, abandon_at=now + LIFETIME, created_at=now, updated_at=now
    )
    if client.sign_in_id in instance.sign_ins:
        instance.sign_ins.remove(str(client.sign_in_id))
    store_attempt(instance.sign_ins, attempt)
    client.sign_in_id = attempt.id
    return attempt


def get(instance: Instance, client: Client | None, sign_in_id: str) -> SignIn:
    """Return an open attempt of the client, or raise an ApiError."""
    found = instance.sign_ins.find(sign_in_id)
    if found is None or client is None or found.client_id != client.id or found.abandon_at <= instance.now:
        raise not_found_error("sign-in", sign_in_id)
    return found


def identify(instance: Instance, attempt: SignIn, identifier: str) -> User:
    """Identify the user by an email address, a username or a phone number."""
    user = find_by_identifier(instance, identifier)
    if user is None:
        raise _unknown_identifier_error()
    sessions.require_can_add_session(instance, instance.clients[attempt.client_id], user)
    attempt.identifier, attempt.user_id = identifier.strip(), user.id
    instance.touch(attempt)
    return user


def find_by_identifier(instance: Instance, identifier: str) -> User | None:
    """Return the user with this identifier."""
    wanted = identifier.strip()
    found = emails.find_owner(instance, wanted)
    owner = instance.usernames.get(wanted.lower()) or instance.phone_owners.get(wanted)
    return found or instance.users.find(owner)


def get_user(instance: Instance, attempt: SignIn) -> User:
    """Return the user of an attempt, or raise an ApiError."""
    user = instance.users.find(attempt.user_id)
    if user is None:
        message = "The user of this sign-in is not identified or was deleted."
        raise ApiError(400, ErrorDetail("sign_in_identification_or_user_deleted", "nobody", message))
    return user


def prepare_first(instance: Instance, attempt: SignIn, strategy: str, email_id: str | None = None) -> None:
    """Send a code to an address of the user."""
    if strategy not in CODE_STRATEGIES:
        raise invalid_value_error("strategy")
    user = get_user(instance, attempt)
    sent = factors.send_email_code(instance, user, strategy, email_id, attempt.identifier)
    attempt.first_verification_id = sent.id
    instance.touch(attempt)


def attempt_password(instance: Instance, attempt: SignIn, password: str) -> None:
    """Verify the first factor by the password."""
    user = get_user(instance, attempt)
    factors.require_password(instance, user, password)
    _record_first_factor(instance, attempt, user, "password")


def attempt_code(instance: Instance, attempt: SignIn, strategy: str, code: str) -> None:
    """Verify the first factor by the code."""
    user = get_user(instance, attempt)
    factors.require_code(instance, user, attempt.first_verification_id, strategy, code)
    attempt.needs_password = strategy == "reset_password_email_code"
    _record_first_factor(instance, attempt, user, strategy)


def prepare_second(instance: Instance, attempt: SignIn, phone_id: str | None = None) -> None:
    """Send a code to a phone of the user."""
    _require_status(instance, attempt, "needs_second_factor")
    attempt.second_verification_id = factors.send_phone_code(instance, get_user(instance, attempt), phone_id).id
    instance.touch(attempt)


def attempt_second(instance: Instance, attempt: SignIn, code: str) -> None:
    """Verify the second factor by the code."""
    _require_status(instance, attempt, "needs_second_factor")
    user = get_user(instance, attempt)
    factors.require_code(instance, user, attempt.second_verification_id, "phone_code", code)
    attempt.second_proof = "phone_code"
    _finish(instance, attempt, user)


def reset_password(instance: Instance, attempt: SignIn, password: str, *, sign_out: bool) -> None:
    """Set a new password in place of a forgotten one."""
    _require_status(instance, attempt, "needs_new_password")
    user = get_user(instance, attempt)
    users.update(instance, user, {"password": password, "sign_out_of_other_sessions": sign_out})
    attempt.needs_password = False
    _finish(instance, attempt, user)


def redeem_ticket(instance: Instance, attempt: SignIn, ticket: str) -> None:
    """Sign in by the ticket of a sign-in token, or of an invitation, which is accepted."""
    found = tickets.get(instance, ticket)
    client = instance.clients[attempt.client_id]
    if isinstance(found, SignInToken):
        user = sign_in_tokens.require_usable(instance, found)
        access_lists.require_user_allowed(instance, user)
        if not found.actor:
            sessions.require_can_add_session(instance, client, user)
        session = sign_in_tokens.redeem(instance, found, client)
    else:
        tickets.require_pending(instance, found)
        tickets.require_existing_account(instance, found)
        if isinstance(found, OrganizationInvitation):
            user = organization_invitations.accept(instance, found, {})[0]
        else:
            user = invitations.accept(instance, found, {})
        session = sessions.start(instance, user, client)
    attempt.user_id, attempt.identifier, attempt.first_proof = user.id, user.identifier or None, "ticket"
    _complete(instance, attempt, session)


def _record_first_factor(instance: Instance, attempt: SignIn, user: User, strategy: str) -> None:
    attempt.first_proof = strategy
    attempt.needs_second = bool(factors.second_factor_phones(user))
    _finish(instance, attempt, user)


def _finish(instance: Instance, attempt: SignIn, user: User) -> None:
    """Start the session if no step is left."""
    instance.touch(attempt)
    if attempt.needs_password or (attempt.needs_second and attempt.second_proof is None):
        return
    access_lists.require_user_allowed(instance, user)
    _complete(instance, attempt, sessions.start(instance, user, instance.clients[attempt.client_id]))


def _complete(instance: Instance, attempt: SignIn, session: Session) -> None:
    domain_enrollment.enroll_user(instance, get_user(instance, attempt))
    attempt.session_id = session.id
    if attempt.second_proof is not None:
        session.second_factor_verified_at = instance.now
    get_user(instance, attempt).failed_attempts = 0
    client = instance.clients[attempt.client_id]
    client.sign_in_id = None
    client.last_strategy = attempt.first_proof
    instance.touch(attempt)


def _require_status(instance: Instance, attempt: SignIn, wanted: str) -> None:
    found = attempt.status(instance.now)
    if found != wanted:
        message = f"The status of the sign-in must be {wanted}, but it is {found}."
        raise ApiError(400, ErrorDetail("verification_strategy_invalid", "wrong step", message))


def _unknown_identifier_error() -> ApiError:
    return field_error("form_identifier_not_found", "identifier", "No user has this identifier.")
