"""Signing up step by step: who, the address proved by a code or by an invitation, then user and session."""

from typing import Any

from clerk_emulator.state import (
    access_lists,
    emails,
    enrollment,
    invitations,
    metadata,
    organization_invitations,
    passwords,
    post,
    proofs,
    sessions,
    tickets,
    users,
)
from clerk_emulator.state.attempts import LIFETIME, SignUp, keep
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.kinds import SignInToken
from clerk_emulator.state.model import Client, OrganizationInvitation, User
from clerk_emulator.state.refusals import Problem, Refused, bad_parameter, bad_value, missing_resource

NAMES = ("first_name", "last_name", "locale")


def begin(instance: Instance, client: Client, draft: dict[str, Any]) -> SignUp:
    """Begin an attempt in a browser with what is known so far; it takes the place of an older one."""
    sessions.require_new_here(instance, client)
    now = instance.now
    attempt = SignUp(
        id=instance.ids.new("sua"), client_id=client.id, abandon_at=now + LIFETIME, created_at=now, updated_at=now
    )
    _fill(instance, attempt, draft)
    if client.sign_up_id in instance.sign_ups:
        instance.sign_ups.remove(str(client.sign_up_id))
    keep(instance.sign_ups, attempt)
    client.sign_up_id = attempt.id
    _finish(instance, attempt)
    return attempt


def get(instance: Instance, client: Client | None, sign_up_id: str) -> SignUp:
    """Return the attempt of a browser, or refuse one that is over or of another browser."""
    found = instance.sign_ups.find(sign_up_id)
    if found is None or client is None or found.client_id != client.id or found.abandon_at <= instance.now:
        raise missing_resource("sign-up", sign_up_id)
    return found


def update(instance: Instance, attempt: SignUp, draft: dict[str, Any]) -> None:
    """Add what is missing, or change what was said."""
    _require_open(instance, attempt)
    _fill(instance, attempt, draft)
    instance.touch(attempt)
    _finish(instance, attempt)


def prepare(instance: Instance, attempt: SignUp, strategy: str) -> None:
    """Send a code to the address."""
    _require_open(instance, attempt)
    if strategy != "email_code":
        raise bad_value("strategy")
    if attempt.email_address is None:
        raise Refused(422, bad_parameter("form_param_missing", "email_address", "is missing"))
    if attempt.email_proof is not None:
        raise Refused(400, Problem("verification_already_verified", "already verified", "It is verified."))
    code = post.send_code(instance, attempt.email_address, None, attempt.id)
    attempt.verification_id = proofs.open_(instance, attempt.id, code, strategy).id
    instance.touch(attempt)


def attempt_code(instance: Instance, attempt: SignUp, strategy: str, code: str) -> None:
    """Prove the address by the code that was sent."""
    _require_open(instance, attempt)
    proofs.require_right(instance, attempt.verification_id, strategy, code)
    attempt.email_proof = strategy
    instance.touch(attempt)
    _finish(instance, attempt)


def _fill(instance: Instance, attempt: SignUp, draft: dict[str, Any]) -> None:
    """Take what was said; all or nothing."""
    ticket = draft.get("ticket")
    address = _address_of_ticket(instance, ticket) if ticket else None
    if address is None and draft.get("email_address"):
        address = emails.check_shape(draft["email_address"])
    if address is not None and address != attempt.email_address:
        emails.require_free(instance, address)
        access_lists.require_welcome_address(instance, address, is_invited=bool(ticket or attempt.ticket))
    if draft.get("password") is not None:
        passwords.require_strength(draft["password"])
    metadata.check_size("unsafe_metadata", draft.get("unsafe_metadata") or {})
    if not ticket and attempt.ticket is None:
        _require_public(instance)
    if address is not None and address != attempt.email_address:
        attempt.email_address, attempt.email_proof, attempt.verification_id = address, None, None
    if ticket:
        attempt.ticket, attempt.email_proof = ticket, "ticket"
    if draft.get("password") is not None:
        attempt.password = passwords.conceal(draft["password"])
    for name in (*NAMES, "unsafe_metadata"):
        if draft.get(name) is not None:
            setattr(attempt, name, draft[name])
    if draft.get("legal_accepted"):
        attempt.legal_accepted_at = instance.now


def _address_of_ticket(instance: Instance, ticket: str) -> str:
    found = tickets.get(instance, ticket)
    if isinstance(found, SignInToken):
        kind = "actor" if found.actor else "sign_in"
        words = "This ticket signs in, it does not sign up."
        raise Refused(400, Problem(f"{kind}_token_not_in_sign_in_code", "wrong ticket", words))
    tickets.require_open(instance, found)
    tickets.require_nobody(instance, found)
    return found.email_address


def _require_public(instance: Instance) -> None:
    mode = instance.settings.sign_up_mode
    if mode == "restricted":
        raise Refused(403, Problem("sign_up_mode_restricted", "restricted", "Only who is invited may sign up."))
    if mode == "waitlist":
        raise Refused(403, Problem("sign_up_restricted_waitlist", "waitlist", "Who wants to sign up has to wait."))


def _require_open(instance: Instance, attempt: SignUp) -> None:
    if attempt.status(instance.now) != "missing_requirements":
        words = "This sign-up is complete."
        raise Refused(403, Problem("sign_up_cannot_be_updated", "complete", words))


def _finish(instance: Instance, attempt: SignUp) -> None:
    """Make the user and sign in, if nothing is missing any more."""
    if attempt.missing(instance.settings.sign_up_requires) or attempt.unproved:
        return
    user = _make(instance, attempt)
    client = instance.clients[attempt.client_id]
    session = sessions.start(instance, user, client)
    enrollment.note(instance, user)
    attempt.user_id, attempt.session_id, attempt.password = user.id, session.id, None
    client.sign_up_id = None
    client.last_strategy = attempt.email_proof
    instance.touch(attempt)


def _make(instance: Instance, attempt: SignUp) -> User:
    draft: dict[str, Any] = {
        **{name: getattr(attempt, name) for name in NAMES},
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
    assert not isinstance(found, SignInToken), "looked at before the ticket was taken"  # noqa: S101
    return invitations.accept(instance, found, draft)
