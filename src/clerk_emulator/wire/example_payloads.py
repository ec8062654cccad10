"""Example payloads, one for each event type."""

from typing import Any

from clerk_emulator.state import memberships, organization_invitations, organizations, sessions, users
from clerk_emulator.state.clock import Clock
from clerk_emulator.state.ids import IdGenerator
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import (
    Client,
    DomainEvent,
    MailMessage,
    Membership,
    Organization,
    OrganizationDomain,
    OrganizationInvitation,
    Permission,
    Role,
    Session,
    User,
    WaitlistEntry,
)
from clerk_emulator.wire.webhook_payloads import event_payload

JsonObject = dict[str, Any]
INSTANCE_ID = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"  # a constant, as in Clerk's catalogue
EXAMPLE_ID_SUFFIX = "2eXampLe0fNobodysInstance00"
EXAMPLE_TIME = 1_716_883_200_000  # 28 May 2024: examples are older than almost all real events
EXAMPLE_URL = "https://accounts.example.com"
EXAMPLE_CALLER = ("192.0.2.1", "Mozilla/5.0 (Example)")


def example_payload(type_: str) -> JsonObject:
    """Return the body of the example of an event type. KeyError: there is no such type."""
    instance, records = _example_instance()
    kind, _, outcome = type_.partition(".")
    record = records[kind]
    if outcome in ("accepted", "revoked", "ended", "removed"):
        record.settled = outcome
    return event_payload(instance, DomainEvent(type_, record), EXAMPLE_URL, EXAMPLE_CALLER)


def _example_id(prefix: str) -> str:
    return f"{prefix}_{EXAMPLE_ID_SUFFIX}"


def _example_instance() -> tuple[Instance, dict[str, Any]]:
    """Return an instance with one record of each kind, and these records by the prefix of their events."""
    instance = Instance(clock=Clock(lambda: EXAMPLE_TIME), ids=IdGenerator(0))
    instance.id = INSTANCE_ID
    times: JsonObject = {"created_at": EXAMPLE_TIME, "updated_at": EXAMPLE_TIME}
    user = User(
        id=_example_id("user"),
        first_name="Casey",
        last_name="Example",
        external_id="example-1",
        primary_email_address_id=_example_id("idn"),
        last_sign_in_at=EXAMPLE_TIME,
        last_active_at=EXAMPLE_TIME,
        **times,
    )
    users.insert_record(instance, user)
    organization = Organization(
        id=_example_id("org"),
        name="Example Ltd",
        slug="example-ltd",
        max_allowed_memberships=5,
        created_by=user.id,
        **times,
    )
    organizations.insert_record(instance, organization)
    permission = Permission(id=_example_id("perm"), key="org:reports:read", name="Read reports", **times)
    instance.permissions[permission.key] = permission
    role = Role(id=_example_id("role"), key="org:member", name="Member", permissions=[permission.key], **times)
    instance.roles[role.key] = role
    member = Membership(
        id=_example_id("orgmem"), organization_id=organization.id, user_id=user.id, role=role.key, **times
    )
    memberships.insert_record(instance, member)
    client = Client(id=_example_id("client"), token="", session_ids=[_example_id("sess")], **times)
    sessions.insert_client(instance, client)
    return instance, {
        "user": user,
        "organization": organization,
        "organizationMembership": member,
        "permission": permission,
        "role": role,
        **_secondary_records(instance, user, organization, role, times),
    }


def _secondary_records(
    instance: Instance, user: User, organization: Organization, role: Role, times: JsonObject
) -> dict[str, Any]:
    invitation = OrganizationInvitation(
        id=_example_id("orginv"),
        organization_id=organization.id,
        email_address="newcomer@example.com",
        role=role.key,
        ticket="example",
        inviter_id=user.id,
        user_id=user.id,
        expires_at=EXAMPLE_TIME + 30 * 86_400_000,
        **times,
    )
    organization_invitations.insert_record(instance, invitation)
    session = Session(
        id=_example_id("sess"),
        user_id=user.id,
        client_id=_example_id("client"),
        factor_verified_at=EXAMPLE_TIME,
        last_active_at=EXAMPLE_TIME,
        expire_at=EXAMPLE_TIME + 7 * 86_400_000,
        abandon_at=EXAMPLE_TIME + 30 * 86_400_000,
        **times,
    )
    domain = OrganizationDomain(
        id=_example_id("orgdmn"), organization_id=organization.id, name="example.com", verified_at=EXAMPLE_TIME, **times
    )
    mail_fields = {
        "subject": "Your code",
        "text": "Your code is 000000.",
        "code": "000000",
        "user_id": user.id,
        **times,
    }
    return {
        "organizationInvitation": invitation,
        "session": session,
        "organizationDomain": domain,
        "waitlistEntry": WaitlistEntry(id=_example_id("wle"), email_address="newcomer@example.com", **times),
        "email": MailMessage(
            id=_example_id("ema"),
            slug="verification_code",
            to="casey@example.com",
            identification_id=_example_id("idn"),
            **mail_fields,
        ),
        "sms": MailMessage(
            id=_example_id("sms"),
            kind="sms",
            slug="verification_code",
            to="+15555550100",
            identification_id=_example_id("idn"),
            **mail_fields,
        ),
    }
