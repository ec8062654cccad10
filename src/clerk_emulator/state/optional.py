"""What Clerk may leave out: every optional claim, header and field, in one table.

A setting `omitted` lists what an emulator leaves out: names such as `user.image_url`, all of a kind (`user.*`), or
everything (`*`, as in the profile `minimal`). `*` spares the names in `INDISPENSABLE`; each can be named by itself.

Fields: what Clerk's specification files (`bapi-2025-11-10`, `bapi-2026-05-12`, `webhooks-2025-04-15`) don't require of
an object, a test compares. Claims and headers: Clerk's documentation of session tokens and errors. `RELUCTANT` has what
the files require or allow to be null, and is missing in practice.
"""

from collections.abc import Iterable
from functools import cache

FIELDS: dict[str, tuple[str, ...]] = {
    "deleted": ("external_id", "id", "slug"),  # what is left of a deleted thing
    "email_address": ("id", "matches_sso_connection"),
    "error": ("meta",),
    "error_body": ("clerk_trace_id", "meta"),
    "event": ("event_attributes",),  # the envelope of a webhook
    "invitation": ("expires_at", "revoked", "url"),
    "organization": (
        "created_by",
        "image_url",
        "last_active_at",
        "members_count",
        "missing_member_with_elevated_permissions",
        "pending_invitations_count",
        "private_metadata",
        "role_set_key",
    ),
    "organization_domain": ("public_organization_data",),
    "organization_invitation": ("organization_id", "private_metadata", "status"),
    "organization_membership": ("private_metadata", "public_user_data", "role_name"),
    "organization_settings": (
        "initial_role_set_key",
        "max_allowed_permissions",
        "max_role_sets_allowed",
        "slug_disabled",
    ),
    "phone_number": ("backup_codes", "default_second_factor", "id", "reserved_for_second_factor"),
    "public_user_data": ("banned", "deprovisioned", "identifier", "username"),
    "role_set": ("creator_role", "default_role", "role_set_migration"),
    "role_set_item": ("has_members", "members_count"),
    "session": ("actor", "last_active_organization_id", "latest_activity", "tasks"),
    "user": (
        "bypass_client_trust",
        "create_organizations_limit",
        "deprovisioned",
        "image_url",
        "locale",
        "organization_memberships",
        "password_last_updated_at",
        "private_metadata",
        "profile_image_url",
        "scim",
        "unsafe_metadata",
    ),
    "waitlist_entry": ("invitation", "is_locked"),
}
CLAIMS = {"session_token": ("azp", "fea", "fva", "o", "sts")}
HEADERS = {"header": ("retry-after", "x-clerk-trace-id")}
RELUCTANT: dict[str, tuple[str, ...]] = {
    "email_address": ("verification",),  # null instead, as the files allow
    "phone_number": ("verification",),
    "embedded_organization": (  # of a membership in a webhook: required by the files, reported as missing
        "admin_delete_enabled",
        "has_image",
        "max_allowed_memberships",
        "public_metadata",
    ),
}
NULLED = {"email_address.verification", "phone_number.verification"}
ONLY_EMPTY = {"session.actor", "user.deprovisioned", "user.scim"}  # left out where they say nothing, else told
INDISPENSABLE = {
    "deleted.id": "nothing else says what was deleted",
    "email_address.id": "`primary_email_address_id` refers to it",
    "organization_invitation.organization_id": "nothing else in an event says of which organization it is",
    "organization_invitation.private_metadata": "what its sender wrote into it is nowhere else",
    "organization_invitation.status": "nothing else in a list says whether it is open",
    "organization_membership.public_user_data": "nothing else says whose membership it is",
    "phone_number.id": "`primary_phone_number_id` refers to it",
}
EVERYTHING = "*"
TABLES = (FIELDS, CLAIMS, HEADERS, RELUCTANT)
NAMES = tuple(sorted({f"{kind}.{name}" for table in TABLES for kind, names in table.items() for name in names}))
KINDS = tuple(sorted({name.partition(".")[0] for name in NAMES}))


def require_known(omitted: Iterable[object]) -> None:
    """Raise a ValueError that names what is neither a name, nor all of a kind (`user.*`), nor `*`."""
    known = {*NAMES, *(f"{kind}.*" for kind in KINDS), EVERYTHING}
    unknown = [one for one in omitted if not isinstance(one, str) or one not in known]
    if unknown:
        raise ValueError(f"omitted: unknown {unknown[0]!r}; GET /_emulator/omittable lists what there is")


@cache
def chosen(omitted: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Return what is left out of each kind."""
    names = [name for name in NAMES if _is_chosen(name, omitted)]
    pairs = [name.split(".", 1) for name in names]
    return {kind: frozenset(field for owner, field in pairs if owner == kind) for kind in KINDS}


def _is_chosen(name: str, omitted: tuple[str, ...]) -> bool:
    if name in omitted:
        return True
    return name not in INDISPENSABLE and (EVERYTHING in omitted or f"{name.partition('.')[0]}.*" in omitted)
