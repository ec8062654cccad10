"""Sign-up attempts: required fields, verification, user and session."""

from typing import Any

from clerk_emulator.state import (
    access_lists,
    domain_enrollment,
    emails,
    invitations,
    mailer,
    metadata,
    organization_invitations,
    passwords,
    sessions,
    tickets,
    users,
    verifications,
)
from clerk_emulator.state.auth_attempts import LIFETIME, SignUp, store_attempt
from clerk_emulator.state.errors import ApiError, ErrorDetail, invalid_value_error, not_found_error, parameter_detail
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Client, OrganizationInvitation, SignInToken, User

NAME_FIELDS = ("first_name", "last_name", "locale")


def start(instance: Instance, client: Client, draft: dict[str, Any]) -> SignUp:
    """Start an attempt in a client with the given fields; it replaces an older one."""
    sessions.require_can_add_session(instance, client)
    now = instance.now
    attempt = SignUp(
        id=instance.ids.new("sua"), client_id=client.id, abandon_at=now + LIFETIME, created_at=now, updated_at=now
    )
    _apply_fields(instance, attempt, draft)
    if client.sign_up_id in instance.sign_ups:
        instance.sign_ups.remove(str(client.sign_up_id))
    store_attempt(instance.sign_ups, attempt)
    client.sign_up_id = attempt.id
    _finish(instance, attempt)
    return attempt


def get(instance: Instance, client: Client | None, sign_up_id: str) -> SignUp:
    """Return an open attempt of the client, or raise an ApiError."""
    found = instance.sign_ups.find(sign_up_id)
    if found is None or client is None or found.client_id != client.id or found.abandon_at <= instance.now:
        raise not_found_error("sign-up", sign_up_id)
    return found


def update(instance: Instance, attempt: SignUp, draft: dict[str, Any]) -> None:
    """Add or change fields."""
    _require_not_complete(instance, attempt)
    _apply_fields(instance, attempt, draft)
    instance.touch(attempt)
    _finish(instance, attempt)


def prepare_verification(instance: Instance, attempt: SignUp, strategy: str) -> None:
    """Send a code to the address."""
    _require_not_complete(instance, attempt)
    if strategy != "email_code":
        raise invalid_value_error("strategy")
    if attempt.email_address is None:
        raise ApiError(422, parameter_detail("form_param_missing", "email_address", "is missing"))
    if attempt.email_proof is not None:
        raise ApiError(400, ErrorDetail("verification_already_verified", "already verified", "It is already verified."))
    code = mailer.send_code(instance, attempt.email_address, None, attempt.id)
    attempt.verification_id = verifications.create(instance, attempt.id, code, strategy).id
    instance.touch(attempt)


def attempt_code(instance: Instance, attempt: SignUp, strategy: str, code: str) -> None:
    """Verify the address by the code."""
    _require_not_complete(instance, attempt)
    verifications.require_code(instance, attempt.verification_id, strategy, code)
    attempt.email_proof = strategy
    instance.touch(attempt)
    _finish(instance, attempt)


def _apply_fields(instance: Instance, attempt: SignUp, draft: dict[str, Any]) -> None:
    """Apply the given fields; all of them or none."""
    ticket = draft.get("ticket")
    address = _ticket_address(instance, ticket) if ticket else None
    if address is None and draft.get("email_address"):
        address = emails.parse_address(draft["email_address"])
    if address is not None and address != attempt.email_address:
        emails.require_free(instance, address)
        access_lists.require_address_allowed(instance, address, is_invited=bool(ticket or attempt.ticket))
    if draft.get("password") is not None:
        passwords.require_strength(draft["password"])
    metadata.check_size("unsafe_metadata", draft.get("unsafe_metadata") or {})
    if not ticket and attempt.ticket is None:
        _require_public_sign_up(instance)
    if address is not None and address != attempt.email_address:
        attempt.email_address, attempt.email_proof, attempt.verification_id = address, None, None
    if ticket:
        attempt.ticket, attempt.email_proof = ticket, "ticket"
    if draft.get("password") is not None:
        attempt.password = passwords.hash_password(draft["password"])
    for name in (*NAME_FIELDS, "unsafe_metadata"):
        if draft.get(name) is not None:
            setattr(attempt, name, draft[name])
    if draft.get("legal_accepted"):
        attempt.legal_accepted_at = instance.now


def _ticket_address(instance: Instance, ticket: str) -> str:
    found = tickets.get(instance, ticket)
    if isinstance(found, SignInToken):
        kind = "actor" if found.actor else "sign_in"
        message = "This ticket is for sign-in, not for sign-up."
        raise ApiError(400, ErrorDetail(f"{kind}_token_not_in_sign_in_code", "wrong ticket", message))
    tickets.require_pending(instance, found)
    tickets.require_no_account(instance, found)
    return found.email_address


def _require_public_sign_up(instance: Instance) -> None:
    mode = instance.settings.sign_up_mode
    if mode == "restricted":
        raise ApiError(
            403, ErrorDetail("sign_up_mode_restricted", "restricted", "An invitation is required to sign up.")
        )
    if mode == "waitlist":
        raise ApiError(403, ErrorDetail("sign_up_restricted_waitlist", "waitlist", "Sign-ups go through the waitlist."))


def _require_not_complete(instance: Instance, attempt: SignUp) -> None:
    if attempt.status(instance.now) != "missing_requirements":
        message = "This sign-up is complete."
        raise ApiError(403, ErrorDetail("sign_up_cannot_be_updated", "complete", message))


def _finish(instance: Instance, attempt: SignUp) -> None:
    """Create the user and start the session if no field is missing."""
    if attempt.missing(instance.settings.sign_up_requires) or attempt.unverified_fields:
        return
    user = _create_user(instance, attempt)
    client = instance.clients[attempt.client_id]
    session = sessions.start(instance, user, client)
    domain_enrollment.enroll_user(instance, user)
    attempt.user_id, attempt.session_id, attempt.password = user.id, session.id, None
    client.sign_up_id = None
    client.last_strategy = attempt.email_proof
    instance.touch(attempt)


def _create_user(instance: Instance, attempt: SignUp) -> User:
    draft: dict[str, Any] = {
        **{name: getattr(attempt, name) for name in NAME_FIELDS},
        "unsafe_metadata": attempt.unsafe_metadata,
        "legal_accepted_at": attempt.legal_accepted_at,
    }
    if attempt.password is not None:
        hasher, _, digest = attempt.password.partition("$")
        draft |= {"password_digest": digest, "password_hasher": hasher}
    if attempt.ticket is None:
        return users.create(instance, {**draft, "email_address": [attempt.email_address]}, strategy="email_code")
    found = tickets.get(instance, attempt.ticket)
    if isinstance(found, OrganizationInvitation):
        return organization_invitations.accept(instance, found, draft)[0]
    assert not isinstance(found, SignInToken), "checked before the ticket was accepted"  # noqa: S101
    return invitations.accept(instance, found, draft)
