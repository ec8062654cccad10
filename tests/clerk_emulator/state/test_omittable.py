"""The table of omittable fields."""

from typing import Any

import pytest

from clerk_emulator.state.omittable import (
    FIELDS,
    KEPT_BY_WILDCARD,
    MISSING_IN_PRACTICE,
    NAMES,
    OMITTED_AS_NULL,
    OMITTED_ONLY_IF_EMPTY,
    select_omitted,
)
from tests.clerk_emulator.specification import follow, load

FILES = ("bapi-2025-11-10.yml", "bapi-2026-05-12.yml", "webhooks-2025-04-15.yml")
BY_NAME = {  # schemas whose objects don't say what they are
    "deleted": "DeletedObject",
    "error": "ClerkError",
    "error_body": "ClerkErrors",
    "event": "WebhookEventPayload",
    "public_user_data": "OrganizationMembershipPublicUserData",
}
BY_OBJECT = {  # the schema of each other kind; others of the same object only add fields
    "email_address": "EmailAddress",
    "invitation": "Invitation",
    "organization": "Organization",
    "organization_domain": "OrganizationDomain",
    "organization_invitation": "OrganizationInvitation",
    "organization_membership": "OrganizationMembership",
    "organization_settings": "OrganizationSettings",
    "phone_number": "PhoneNumber",
    "role_set": "RoleSet",
    "role_set_item": "RoleSetItem",
    "session": "Session",
    "user": "User",
    "waitlist_entry": "WaitlistEntry",
}


def schema_of(file: str, kind: str) -> Any:
    """Return the schema of a kind in one of Clerk's specification files, or None."""
    schemas = load(file)["components"]["schemas"]
    found = schemas.get((BY_NAME | BY_OBJECT)[kind])
    return found and follow(load(file), found)


@pytest.mark.parametrize("kind", FIELDS)
def test_omittable_fields_are_those_that_the_specification_does_not_require(kind: str) -> None:
    optional: set[str] = set()
    required: set[str] = set()
    for file in FILES:
        schema = schema_of(file, kind)
        if schema is not None:
            optional |= set(schema["properties"]) - set(schema.get("required", ()))
            required |= set(schema.get("required", ()))
    assert set(FIELDS[kind]) == optional
    assert not optional & required, "the files agree"


@pytest.mark.parametrize("name", sorted(OMITTED_AS_NULL))
def test_fields_omitted_as_null_are_nullable_in_the_specification(name: str) -> None:
    kind, field = name.split(".")
    assert field in MISSING_IN_PRACTICE[kind]
    assert schema_of("bapi-2026-05-12.yml", kind)["properties"][field]["nullable"] is True


def test_a_star_selects_everything_but_indispensable_fields() -> None:
    assert set(NAMES) >= {*KEPT_BY_WILDCARD, *OMITTED_AS_NULL, *OMITTED_ONLY_IF_EMPTY}
    everything = {f"{kind}.{name}" for kind, names in select_omitted(("*",)).items() for name in names}
    assert everything == set(NAMES) - set(KEPT_BY_WILDCARD)
    assert select_omitted(("deleted.*",))["deleted"] == {"external_id", "slug"}
    assert select_omitted(("deleted.id",))["deleted"] == {"id"}
    assert not any(select_omitted(()).values())
