"""Clerk's Python SDK over a port: every supported call, parsed by its strict models."""

from collections.abc import Iterator

import pytest
from clerk_backend_api import Clerk, models
from clerk_backend_api.security import authenticate_request, verify_token
from clerk_backend_api.security.types import AuthenticateRequestOptions, VerifyTokenOptions
from clerk_backend_api.utils import BackoffStrategy, RetryConfig

from clerk_emulator import Emulator

# The SDK reads fields that it has itself marked as deprecated.
pytestmark = pytest.mark.filterwarnings(r"ignore:warning. \*\* DEPRECATED:DeprecationWarning")
NO_RETRIES = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), False)


@pytest.fixture
def clerk(served: Emulator) -> Iterator[Clerk]:
    with Clerk(
        bearer_auth=served.secret_key, server_url=f"{served.site.url}/v1", retry_config=NO_RETRIES, timeout_ms=5_000
    ) as clerk:
        yield clerk


def make_user(clerk: Clerk, address: str = "ada@example.com") -> models.User:
    return clerk.users.create(email_address=[address], first_name="Ada", password="correct horse battery")


def test_the_life_of_a_user(clerk: Clerk) -> None:
    user = make_user(clerk)
    assert clerk.users.get(user_id=user.id).email_addresses[0].email_address == "ada@example.com"
    assert clerk.users.update(user_id=user.id, first_name="Bo", external_id="ext_1").first_name == "Bo"
    assert clerk.users.update_metadata(user_id=user.id, public_metadata={"a": 1}).public_metadata == {"a": 1}
    assert clerk.users.replace_metadata(user_id=user.id, public_metadata={}).public_metadata == {}
    assert clerk.users.ban(user_id=user.id).banned
    assert not clerk.users.unban(user_id=user.id).banned
    assert clerk.users.bulk_ban(user_ids=[user.id])[0].banned
    assert not clerk.users.bulk_unban(user_ids=[user.id])[0].banned
    assert clerk.users.lock(user_id=user.id).locked
    assert not clerk.users.unlock(user_id=user.id).locked
    verified = clerk.users.verify_password(user_id=user.id, password="correct horse battery")
    assert verified.verified
    assert not clerk.users.remove_password(user_id=user.id).password_enabled
    assert clerk.users.delete(user_id=user.id).deleted


def test_users_are_listed_and_counted(clerk: Clerk) -> None:
    for name in ("a", "b", "c"):
        make_user(clerk, f"{name}@example.com")
    found = clerk.users.list(request={"limit": 2, "order_by": "+created_at"})
    assert [user.email_addresses[0].email_address for user in found] == ["a@example.com", "b@example.com"]
    assert clerk.users.count(request={"email_address_query": "c@"}).total_count == 1


def test_email_addresses(clerk: Clerk) -> None:
    user = make_user(clerk)
    created = clerk.email_addresses.create(request={"user_id": user.id, "email_address": "new+clerk_test@example.com"})
    assert created is not None
    assert created.id is not None
    proof = clerk.email_addresses.prepare_verification(email_address_id=created.id)
    assert proof.id is not None
    tried = clerk.email_addresses.attempt_verification(
        email_address_id=created.id, verification_id=proof.id, code="424242"
    )
    assert tried.status == "verified"
    assert clerk.email_addresses.get(email_address_id=created.id).verification is not None
    assert clerk.email_addresses.update(email_address_id=created.id, primary=True).id == created.id
    assert clerk.email_addresses.delete(email_address_id=user.email_addresses[0].id or "").deleted
    replaced = clerk.email_addresses.replace_for_user(user_id=user.id, email_address="only@example.com")
    assert replaced.email_address == "only@example.com"


def test_organizations_and_memberships(clerk: Clerk) -> None:
    admin, member = make_user(clerk), make_user(clerk, "bo@example.com")
    firm = clerk.organizations.create(request={"name": "Northwind Law", "created_by": admin.id})
    assert firm is not None
    assert clerk.organizations.get(organization_id=firm.slug, include_members_count=True).members_count == 1
    assert clerk.organizations.update(organization_id=firm.id, name="Northwind").name == "Northwind"
    merged = clerk.organizations.merge_metadata(organization_id=firm.id, public_metadata={"a": 1})
    assert merged.public_metadata == {"a": 1}
    clerk.organizations.replace_metadata(organization_id=firm.id, public_metadata={})
    assert clerk.organizations.list(limit=5).total_count == 1
    joined = clerk.organization_memberships.create(organization_id=firm.id, user_id=member.id, role="org:member")
    assert joined.role == "org:member"
    changed = clerk.organization_memberships.update(organization_id=firm.id, user_id=member.id, role="org:admin")
    assert changed.role == "org:admin"
    noted = clerk.organization_memberships.update_metadata(
        organization_id=firm.id, user_id=member.id, public_metadata={"desk": 4}
    )
    assert noted.public_metadata == {"desk": 4}
    assert clerk.organization_memberships.list(organization_id=firm.id, role=["org:admin"]).total_count == 2
    assert clerk.users.get_organization_memberships(user_id=member.id).total_count == 1
    assert clerk.users.get_instance_organization_memberships().total_count == 2
    removed = clerk.organization_memberships.delete(organization_id=firm.id, user_id=member.id)
    assert removed.id == joined.id
    assert clerk.organizations.delete(organization_id=firm.id).deleted


def test_organization_invitations(clerk: Clerk) -> None:
    admin = make_user(clerk)
    firm = clerk.organizations.create(request={"name": "Northwind Law", "created_by": admin.id})
    assert firm is not None
    all_of = clerk.organization_invitations
    created = all_of.create(
        organization_id=firm.id, email_address="bo@example.com", role="org:member", inviter_user_id=admin.id
    )
    assert created.public_inviter_data is not None
    bulk = all_of.bulk_create(
        organization_id=firm.id,
        request_body=[
            models.CreateOrganizationInvitationBulkRequestBody(email_address="cy@example.com", role="org:member")
        ],
    )
    assert bulk.total_count == 1
    assert (
        all_of.list(
            organization_id=firm.id, status=models.ListOrganizationInvitationsQueryParamStatus.PENDING
        ).total_count
        == 2
    )
    assert all_of.get(organization_id=firm.id, invitation_id=created.id).url
    assert all_of.get_all(query="bo@").total_count == 1
    assert all_of.list_pending(organization_id=firm.id).total_count == 2
    assert clerk.users.get_organization_invitations(user_id=admin.id).total_count == 0
    assert all_of.revoke(organization_id=firm.id, invitation_id=created.id).status == "revoked"
    with pytest.raises(models.ClerkErrors) as error:
        all_of.revoke(organization_id=firm.id, invitation_id=created.id)
    assert error.value.status_code == 404
    assert error.value.data.errors[0].code == "organization_invitation_not_pending"


def test_application_invitations(clerk: Clerk) -> None:
    created = clerk.invitations.create(request={"email_address": "bo@example.com"})
    assert created is not None
    clerk.invitations.bulk_create(request=[models.RequestBody(email_address="cy@example.com")])
    assert {row.email_address for row in clerk.invitations.list()} == {"bo@example.com", "cy@example.com"}
    assert clerk.invitations.revoke(invitation_id=created.id).status == "revoked"


def test_sessions_tokens_keys_and_roles(clerk: Clerk, served: Emulator) -> None:
    user = make_user(clerk)
    session = clerk.sessions.create(request={"user_id": user.id})
    assert session is not None
    assert clerk.sessions.list(user_id=user.id)[0].id == session.id
    token = clerk.sessions.create_token(session_id=session.id).jwt or ""
    options = VerifyTokenOptions(secret_key=served.secret_key, api_url=served.site.url)
    assert verify_token(token, options)["sub"] == user.id
    assert clerk.jwks.get_jwks().keys
    assert clerk.sessions.revoke(session_id=session.id).status == "revoked"
    assert clerk.sessions.get(session_id=session.id).status == "revoked"
    roles = clerk.organization_roles.list()
    assert {role.key for role in roles.data} == {"org:admin", "org:member"}
    assert clerk.organization_roles.get(organization_role_id=roles.data[0].id).key
    permissions = clerk.organization_permissions.list(limit=50)
    assert clerk.organization_permissions.get(permission_id=permissions.data[0].id).type == "system"
    assert clerk.instance_settings.get().environment_type == "development"
    assert clerk.instance_settings.get_organization_settings().max_allowed_memberships == 5
    assert clerk.domains.list().total_count == 1


def test_a_request_is_authenticated_without_the_network(clerk: Clerk, served: Emulator) -> None:
    user = make_user(clerk)
    clerk.organizations.create(request={"name": "Northwind Law", "created_by": user.id})
    session = clerk.sessions.create(request={"user_id": user.id})
    assert session is not None
    token = clerk.sessions.create_token(session_id=session.id).jwt or ""

    class Request:
        headers = {"Authorization": f"Bearer {token}"}  # noqa: RUF012 - a stand-in

    options = AuthenticateRequestOptions(jwt_key=served.site.keyring.public_pem, accepts_token=["session_token"])
    state = authenticate_request(Request(), options)
    assert state.is_signed_in
    assert state.payload is not None
    assert (state.payload["sub"], state.payload["org_role"]) == (user.id, "admin")


def test_an_unsupported_operation_returns_not_implemented(clerk: Clerk) -> None:
    with pytest.raises(models.ClerkErrors) as error:
        clerk.billing.list_plans()
    assert (error.value.status_code, error.value.data.errors[0].code) == (400, "emulator_not_implemented")


def test_phone_numbers(clerk: Clerk) -> None:
    user = make_user(clerk)
    created = clerk.phone_numbers.create(request={"user_id": user.id, "phone_number": "+15555550100"})
    assert created is not None
    assert created.id is not None
    proof = clerk.phone_numbers.prepare_verification(phone_number_id=created.id)
    tried = clerk.phone_numbers.attempt_verification(
        phone_number_id=created.id, verification_id=proof.id or "", code="424242"
    )
    assert tried.status == "verified"
    assert clerk.phone_numbers.get(phone_number_id=created.id).verification is not None
    assert clerk.phone_numbers.update(phone_number_id=created.id, primary=True).id == created.id
    assert clerk.users.get(user_id=user.id).primary_phone_number_id == created.id
    assert clerk.phone_numbers.delete(phone_number_id=created.id).deleted


def test_role_sets_and_domains(clerk: Clerk) -> None:
    permission = clerk.organization_permissions.create(name="Read files", key="org:files:read")
    role = clerk.organization_roles.create(name="Clerk", key="org:clerk", permissions=[permission.id])
    assert role.permissions[0].key == "org:files:read"
    assert clerk.organization_roles.update(organization_role_id=role.id, name="Law clerk").name == "Law clerk"
    created = clerk.role_sets.create(
        name="Clerks", default_role_key="org:clerk", creator_role_key="org:admin", roles=["org:clerk", "org:admin"]
    )
    assert {item.key for item in created.roles} == {"org:clerk", "org:admin"}
    assert clerk.role_sets.list().total_count == 2
    assert clerk.instance_settings.update_organization_settings(request={"domains_enabled": True}).domains_enabled
    firm = clerk.organizations.create(request={"name": "Northwind Law"})
    assert firm is not None
    domain = clerk.organization_domains.create(
        organization_id=firm.id, name="northwind.example", enrollment_mode="manual_invitation"
    )
    assert clerk.organization_domains.list(organization_id=firm.id).total_count == 1
    assert clerk.organization_domains.delete(organization_id=firm.id, domain_id=domain.id).deleted


def test_access_lists_tokens_and_waitlist(clerk: Clerk) -> None:
    user = make_user(clerk)
    token = clerk.sign_in_tokens.create(request={"user_id": user.id})
    assert token is not None
    assert clerk.sign_in_tokens.revoke(sign_in_token_id=token.id).status == "revoked"
    allowed = clerk.allowlist_identifiers.create(request={"identifier": "bo@example.com"})
    assert allowed is not None
    assert clerk.allowlist_identifiers.list()[0].identifier == "bo@example.com"
    clerk.blocklist_identifiers.create(request={"identifier": "eve@example.com"})
    assert clerk.blocklist_identifiers.list().total_count == 1
    entry = clerk.waitlist_entries.create(request={"email_address": "cy@example.com"})
    assert entry is not None
    assert clerk.waitlist_entries.invite(waitlist_entry_id=entry.id).status == "invited"
    assert clerk.waitlist_entries.list().total_count == 1
    created = clerk.redirect_urls.create(request={"url": "myapp://callback"})
    assert created is not None
    assert clerk.redirect_urls.list()[0].id == created.id
    template = clerk.jwt_templates.create(
        request={"name": "backend", "claims": {"mail": "{{user.id}}"}}  # type: ignore[arg-type]
    )
    assert template is not None
    assert clerk.jwt_templates.list()[0].name == "backend"
    assert clerk.testing_tokens.create() is not None


def test_machines_and_keys(clerk: Clerk, served: Emulator) -> None:
    user = make_user(clerk)
    created = clerk.machines.create(request={"name": "Mailer"})
    assert created is not None
    assert clerk.machines.list().total_count == 1
    with Clerk(bearer_auth=created.secret_key, server_url=f"{served.site.url}/v1", retry_config=NO_RETRIES) as machine:
        token = machine.m2m.create_token(seconds_until_expiration=60)
    assert clerk.m2m.verify_token(token=token.token).subject == created.id
    key = clerk.api_keys.create_api_key(name="Reports", subject=user.id)
    assert clerk.api_keys.verify_api_key(secret=key.secret).id == key.id
    assert clerk.api_keys.revoke_api_key(api_key_id=key.id).revoked
