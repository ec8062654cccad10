"""JSON of sign-in and sign-up attempts."""

from typing import Any

from clerk_emulator.state import factors
from clerk_emulator.state.auth_attempts import SignIn, SignUp
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import EmailAddress, PhoneNumber, User
from clerk_emulator.wire.avatars import user_image_url

JsonObject = dict[str, Any]
OPTIONAL_FIELDS = ("password", "first_name", "last_name")


def sign_in(instance: Instance, found: SignIn) -> JsonObject:
    """Return a sign-in attempt."""
    user = instance.users.find(found.user_id)
    return {
        "object": "sign_in_attempt",
        "id": found.id,
        "status": found.status(instance.now),
        "supported_identifiers": ["email_address"],
        "supported_first_factors": first_factors(user) if user else None,
        "supported_second_factors": second_factors(user) if user and found.needs_second else None,
        "first_factor_verification": verification_state(instance, found.first_verification_id, found.first_proof),
        "second_factor_verification": verification_state(instance, found.second_verification_id, found.second_proof),
        "identifier": found.identifier,
        "user_data": _user_data(instance, user) if user else None,
        "created_session_id": found.session_id,
        "abandon_at": found.abandon_at,
        "client_trust_state": None,
    }


def sign_up(instance: Instance, found: SignUp) -> JsonObject:
    """Return a sign-up attempt."""
    required = instance.settings.sign_up_requires
    return {
        "object": "sign_up_attempt",
        "id": found.id,
        "status": found.status(instance.now),
        "required_fields": ["email_address", *required],
        "optional_fields": [name for name in OPTIONAL_FIELDS if name not in required],
        "missing_fields": [] if found.user_id else found.missing(required),
        "unverified_fields": found.unverified_fields,
        "verifications": {
            "email_address": _email_verification(instance, found),
            "phone_number": None,
            "web3_wallet": None,
            "external_account": None,
        },
        "username": None,
        "email_address": found.email_address,
        "phone_number": None,
        "web3_wallet": None,
        "password_enabled": bool(found.password or found.user_id),
        "first_name": found.first_name,
        "last_name": found.last_name,
        "unsafe_metadata": found.unsafe_metadata,
        "public_metadata": {},
        "custom_action": False,
        "external_id": None,
        "created_session_id": found.session_id,
        "created_user_id": found.user_id,
        "abandon_at": found.abandon_at,
        "legal_accepted_at": found.legal_accepted_at,
    }


def first_factors(user: User) -> list[JsonObject]:
    """Return the first factors of a user."""
    verified_emails = factors.first_factor_emails(user)
    found: list[JsonObject] = [{"strategy": "password"}] if user.password is not None else []
    found += [_email_factor("email_code", email, user) for email in verified_emails]
    if user.password is not None:
        found += [_email_factor("reset_password_email_code", email, user) for email in verified_emails]
    return found


def _email_factor(strategy: str, email: EmailAddress, user: User) -> JsonObject:
    return {
        "strategy": strategy,
        "safe_identifier": email.email_address,
        "email_address_id": email.id,
        "primary": email.id == user.primary_email_address_id,
    }


def second_factors(user: User) -> list[JsonObject]:
    """Return the second factors of a user."""
    return [_phone_factor(phone, position == 0) for position, phone in enumerate(factors.second_factor_phones(user))]


def _phone_factor(phone: PhoneNumber, is_default: bool) -> JsonObject:
    return {
        "strategy": "phone_code",
        "safe_identifier": phone.phone_number,
        "phone_number_id": phone.id,
        "default": is_default,
    }


def verification_state(instance: Instance, verification_id: str | None, strategy: str | None) -> JsonObject | None:
    """Return the state of a verification, or None before it was started."""
    found = instance.verifications.get(verification_id or "")
    if strategy in ("password", "ticket"):
        return {
            "object": f"verification_{strategy}",
            "status": "verified",
            "strategy": strategy,
            "attempts": None,
            "expire_at": None,
        }
    if found is None:
        return None
    is_expired = found.status == "unverified" and found.expire_at <= instance.now
    return {
        "object": "verification_otp",
        "status": "expired" if is_expired else found.status,
        "strategy": found.strategy,
        "attempts": found.attempts,
        "expire_at": found.expire_at,
    }


def _email_verification(instance: Instance, found: SignUp) -> JsonObject | None:
    """Return the verification of the address; null until a code was sent: a status would imply one."""
    verification = verification_state(instance, found.verification_id, found.email_proof)
    if verification is None:
        return None
    if verification["status"] == "verified":
        return {**verification, "next_action": "", "supported_strategies": []}
    step = "needs_attempt" if verification["status"] == "unverified" else "needs_prepare"
    return {**verification, "next_action": step, "supported_strategies": ["email_code"]}


def _user_data(instance: Instance, user: User) -> JsonObject:
    return {
        "first_name": user.first_name,
        "last_name": user.last_name,
        "image_url": user_image_url(instance, user),
        "has_image": bool(user.image_url),
        "profile_image_url": user_image_url(instance, user),
    }
