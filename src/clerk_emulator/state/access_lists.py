"""Allowlist and blocklist: who may sign up and sign in."""

import re

from clerk_emulator.state import invitations
from clerk_emulator.state.errors import (
    ApiError,
    ErrorDetail,
    identifier_exists_error,
    invalid_format_error,
    not_found_error,
)
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import AccessListEntry, User
from clerk_emulator.state.tables import Table

IDENTIFIER_PATTERNS = {
    "email_address": re.compile(r"[^@\s]+@[^@\s]+|@[^@\s]+"),
    "phone_number": re.compile(r"\+[\d*]{1,15}"),
    "web3_wallet": re.compile(r"0x[0-9a-fA-F]{40}"),
}


def identifier_type(identifier: str) -> str | None:
    """Return the type of an identifier, or None."""
    return next((kind for kind, result in IDENTIFIER_PATTERNS.items() if result.fullmatch(identifier)), None)


def add(instance: Instance, table: Table[AccessListEntry], identifier: str, *, notify: bool) -> AccessListEntry:
    """Add an identifier; with `notify` its owner is invited."""
    found = identifier.strip().lower()
    kind = identifier_type(found)
    if kind is None:
        raise invalid_format_error(
            "identifier", "must be an email address, a phone number, a wallet, or a pattern of them"
        )
    if any(row.identifier == found for row in table):
        raise identifier_exists_error("identifier", "is already on the list")
    invitation = None
    if notify and kind == "email_address" and "*" not in found:
        invitation = invitations.create_all(instance, [{"email_address": found, "ignore_existing": True}])[0]
    now = instance.now
    created = AccessListEntry(
        id=instance.ids.new("alid" if table is instance.allowlist else "blid"),
        identifier=found,
        invitation_id=invitation.id if invitation else None,
        created_at=now,
        updated_at=now,
    )
    table.add(created)
    return created


def remove(table: Table[AccessListEntry], identifier_id: str) -> None:
    """Delete an entry."""
    if identifier_id not in table:
        raise not_found_error("identifier", identifier_id)
    table.remove(identifier_id)


def require_user_allowed(instance: Instance, user: User) -> None:
    """Raise an ApiError if the lists block the user."""
    settings = instance.settings
    if settings.lists_spare_sign_in:
        return
    names = [email.email_address for email in user.email_addresses] + [one.phone_number for one in user.phone_numbers]
    is_blocked = settings.blocklist and any(_is_listed(instance.blocklist, name) for name in names)
    is_unknown = settings.allowlist and names and not any(_is_listed(instance.allowlist, name) for name in names)
    if is_blocked or is_unknown:
        message = "This user is not allowed by the allowlist or blocklist."
        raise ApiError(403, ErrorDetail("not_allowed_access", "not allowed", message))


def require_address_allowed(instance: Instance, address: str, *, is_invited: bool) -> None:
    """Raise an ApiError if the lists block a new user; an invitation counts as an allowlist entry."""
    settings = instance.settings
    is_sub = settings.block_email_subaddresses and any(sign in address.partition("@")[0] for sign in "+=#")
    is_blocked = is_sub or (settings.blocklist and _is_listed(instance.blocklist, address))
    is_unknown = settings.allowlist and not is_invited and not _is_listed(instance.allowlist, address)
    if is_blocked or is_unknown:
        message = f"{address} is not allowed by the allowlist or blocklist."
        if is_sub:
            message = "Addresses with +, = or # are not allowed."
        raise ApiError(403, ErrorDetail("not_allowed_access", "not allowed", message))


def _is_listed(table: Table[AccessListEntry], name: str) -> bool:
    return any(_matches_pattern(row.identifier, name) for row in table)


def _matches_pattern(pattern: str, name: str) -> bool:
    whole = f"*{pattern}" if pattern.startswith("@") else pattern
    return re.fullmatch(re.escape(whole).replace(r"\*", ".*"), name) is not None
