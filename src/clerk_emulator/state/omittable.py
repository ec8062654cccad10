"""Claims, headers and fields that Clerk may omit."""

from collections.abc import Iterable
from functools import cache

FIELDS: dict[str, tuple[str, ...]] = {
    "deleted": ("external_id", "id", "slug"),  # the object that represents a deleted record
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
MISSING_IN_PRACTICE: dict[str, tuple[str, ...]] = {
    "email_address": ("verification",),  # null instead, as the specification allows
    "phone_number": ("verification",),
    "embedded_organization": (  # of a membership in a webhook: required by the specification, reported as missing
        "admin_delete_enabled",
        "has_image",
        "max_allowed_memberships",
        "public_metadata",
    ),
}
OMITTED_AS_NULL = {"email_address.verification", "phone_number.verification"}
OMITTED_ONLY_IF_EMPTY = {
    "session.actor",
    "user.deprovisioned",
    "user.scim",
}  # omitted only if empty
KEPT_BY_WILDCARD = {
    "deleted.id": "no other field says what was deleted",
    "email_address.id": "`primary_email_address_id` refers to it",
    "organization_invitation.organization_id": "no other field of an event names the organization",
    "organization_invitation.private_metadata": "no other field contains what its sender stored",
    "organization_invitation.status": "no other field of a list says whether it is pending",
    "organization_membership.public_user_data": "no other field names the member",
    "phone_number.id": "`primary_phone_number_id` refers to it",
}
WILDCARD = "*"
TABLES = (FIELDS, CLAIMS, HEADERS, MISSING_IN_PRACTICE)
NAMES = tuple(sorted({f"{kind}.{name}" for table in TABLES for kind, names in table.items() for name in names}))
KINDS = tuple(sorted({name.partition(".")[0] for name in NAMES}))


def require_known(omitted: Iterable[object]) -> None:
    """Raise a ValueError with the entries that are neither a name, nor all of a kind (`user.*`), nor `*`."""
    known = {*NAMES, *(f"{kind}.*" for kind in KINDS), WILDCARD}
    unknown = [one for one in omitted if not isinstance(one, str) or one not in known]
    if unknown:
        raise ValueError(f"omitted: unknown {unknown[0]!r}; see GET /_emulator/omittable")


@cache
def select_omitted(omitted: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Return the omitted names of each kind."""
    names = [name for name in NAMES if _is_omitted(name, omitted)]
    pairs = [name.split(".", 1) for name in names]
    return {kind: frozenset(field for owner, field in pairs if owner == kind) for kind in KINDS}


def _is_omitted(name: str, omitted: tuple[str, ...]) -> bool:
    if name in omitted:
        return True
    return name not in KEPT_BY_WILDCARD and (WILDCARD in omitted or f"{name.partition('.')[0]}.*" in omitted)
