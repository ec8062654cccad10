"""JSON of users, email addresses and phone numbers."""

from typing import Any

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import EmailAddress, PhoneNumber, User, Verification
from clerk_emulator.wire.avatars import user_image_url

JsonObject = dict[str, Any]


def email_address(email: EmailAddress) -> JsonObject:
    """Return an email address."""
    return {
        "id": email.id,
        "object": "email_address",
        "email_address": email.email_address,
        "reserved": email.status == "reserved",
        "verification": _verification_or_none(email),
        "linked_to": [],
        "matches_sso_connection": False,
        "created_at": email.created_at,
        "updated_at": email.updated_at,
    }


def user(instance: Instance, found: User) -> JsonObject:
    """Return a user."""
    now = instance.now
    lockout = found.lockout_ends_at
    locked = lockout is not None and lockout > now
    return {
        "id": found.id,
        "object": "user",
        "external_id": found.external_id,
        "primary_email_address_id": found.primary_email_address_id,
        "primary_phone_number_id": found.primary_phone_number_id,
        "primary_web3_wallet_id": None,
        "username": found.username,
        "first_name": found.first_name,
        "last_name": found.last_name,
        "locale": found.locale,
        "profile_image_url": user_image_url(instance, found),
        "image_url": user_image_url(instance, found),
        "has_image": bool(found.image_url),
        "public_metadata": found.public_metadata,
        "private_metadata": found.private_metadata,
        "unsafe_metadata": found.unsafe_metadata,
        "email_addresses": [email_address(email) for email in found.email_addresses],
        "phone_numbers": [phone_number(phone) for phone in found.phone_numbers],
        "web3_wallets": [],
        "passkeys": [],
        "password_enabled": found.password is not None,
        "two_factor_enabled": any(phone.is_second_factor for phone in found.phone_numbers),
        "totp_enabled": False,
        "backup_code_enabled": False,
        "mfa_enabled_at": None,
        "mfa_disabled_at": None,
        "password_last_updated_at": found.password_last_updated_at,
        "external_accounts": [],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "last_sign_in_at": found.last_sign_in_at,
        "banned": found.banned,
        "locked": locked,
        **deprovisioned(instance, found),
        "lockout_expires_in_seconds": (lockout - now) // 1000 if lockout is not None and locked else None,
        "verification_attempts_remaining": 0 if locked else None,
        "updated_at": found.updated_at,
        "created_at": found.created_at,
        "delete_self_enabled": found.delete_self_enabled,
        "create_organization_enabled": found.create_organization_enabled,
        "create_organizations_limit": found.create_organizations_limit,
        "last_active_at": found.last_active_at,
        "legal_accepted_at": found.legal_accepted_at,
        "bypass_client_trust": found.bypass_client_trust,
    }


def deprovisioned(instance: Instance, found: User) -> JsonObject:
    """Return the field `deprovisioned`, which only instances with directories have."""
    return {"deprovisioned": found.deprovisioned} if len(instance.directories) or found.deprovisioned else {}


def scim(instance: Instance, found: User) -> JsonObject:
    """Return the field `scim`, which only `user.created` and `user.updated` of directory users have."""
    owner = instance.directories.find(found.directory_id)
    if owner is None:
        return {}
    enabled = {"directory_enabled": True} if owner.enabled else {}
    return {"scim": {"directory_id": owner.id, **enabled, "external_id": found.directory_user_id}}


def public_user(instance: Instance, found: User) -> JsonObject:
    """Return the data of a user that members of an organization see."""
    return {
        "user_id": found.id,
        "first_name": found.first_name,
        "last_name": found.last_name,
        "profile_image_url": user_image_url(instance, found),
        "image_url": user_image_url(instance, found),
        "has_image": bool(found.image_url),
        "identifier": found.identifier,
        "username": found.username or "",
        "banned": found.banned,
        **deprovisioned(instance, found),
    }


def inviter(instance: Instance, found: User | None) -> JsonObject | None:
    """Return the data of an inviter that invitees see."""
    if found is None:
        return None
    return {
        "user_id": found.id,
        "first_name": found.first_name,
        "last_name": found.last_name,
        "image_url": user_image_url(instance, found),
        "has_image": bool(found.image_url),
        "identifier": found.identifier,
    }


def verification(found: Verification) -> JsonObject:
    """Return a verification."""
    return {
        "object": "verification",
        "id": found.id,
        "status": found.status,
        "strategy": found.strategy,
        "attempts": found.attempts,
        "expire_at": found.expire_at,
    }


def deleted_object(object_: str, id_: str, **more: Any) -> JsonObject:
    """Return the object that represents a deleted record."""
    return {"object": object_, "id": id_, "deleted": True, **more}


def phone_number(phone: PhoneNumber) -> JsonObject:
    """Return a phone number."""
    return {
        "id": phone.id,
        "object": "phone_number",
        "phone_number": phone.phone_number,
        "reserved_for_second_factor": phone.is_second_factor,
        "default_second_factor": phone.is_second_factor,
        "reserved": phone.status == "reserved",
        "verification": _verification_or_none(phone),
        "linked_to": [],
        "created_at": phone.created_at,
        "updated_at": phone.updated_at,
    }


def _verification_or_none(found: EmailAddress | PhoneNumber) -> JsonObject | None:
    if found.status != "verified":
        return None
    codes = dict.fromkeys(("email_code", "phone_code"), "verification_otp")
    kind = {"ticket": "verification_ticket", "scim": "verification_scim", **codes}
    return {
        "object": kind.get(found.strategy or "", "verification_admin"),
        "status": "verified",
        "strategy": found.strategy or "admin",
        "attempts": None,
        "expire_at": None,
    }
