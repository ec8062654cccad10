"""The payloads of "Send example": one for each type of event, of an instance that nobody has the keys of.

Clerk's dashboard sends the example of its catalogue of events, signed with the endpoint's real secret. Its
`instance_id` and everything in it belong to no instance of the one who tests: ids that the instance does not know, old
times, a primary address without an address (clerk-docs#1985, #1655, #889). A receiver that believes it has lost.
"""

from typing import Any

from clerk_emulator.state import memberships, organization_invitations, organizations, sessions, users
from clerk_emulator.state.clock import Clock
from clerk_emulator.state.ids import Ids
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.kinds import Mail, OrganizationDomain, WaitlistEntry
from clerk_emulator.state.model import (
    Client,
    Happening,
    Membership,
    Organization,
    OrganizationInvitation,
    Permission,
    Role,
    Session,
    User,
)
from clerk_emulator.wire.events import envelope

Json = dict[str, Any]
INSTANCE_ID = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"  # the same for everybody, as in Clerk's catalogue
NUMBER = "2eXampLe0fNobodysInstance00"
AT = 1_716_883_200_000  # 28 May 2024: what an example says is older than almost everything real
SITE = "https://accounts.example.com"
CALLER = ("192.0.2.1", "Mozilla/5.0 (Example)")


def example(type_: str) -> Json:
    """Return the whole body of the example of a type of event; KeyError: there is no such type."""
    instance, things = _foreign_instance()
    kind, _, happened = type_.partition(".")
    thing = things[kind]
    if happened in ("accepted", "revoked", "ended", "removed"):
        thing.settled = happened
    return envelope(instance, Happening(type_, thing), SITE, CALLER)


def _id(prefix: str) -> str:
    return f"{prefix}_{NUMBER}"


def _foreign_instance() -> tuple[Instance, dict[str, Any]]:
    """Return an instance with one of each thing, and these things by the first word of their events."""
    instance = Instance(clock=Clock(lambda: AT), ids=Ids(0))
    instance.id = INSTANCE_ID
    times: Json = {"created_at": AT, "updated_at": AT}
    user = User(
        id=_id("user"),
        first_name="Casey",
        last_name="Example",
        external_id="example-1",
        primary_email_address_id=_id("idn"),
        last_sign_in_at=AT,
        last_active_at=AT,
        **times,
    )
    users.restore(instance, user)
    organization = Organization(
        id=_id("org"), name="Example Ltd", slug="example-ltd", max_allowed_memberships=5, created_by=user.id, **times
    )
    organizations.restore(instance, organization)
    permission = Permission(id=_id("perm"), key="org:reports:read", name="Read reports", **times)
    instance.permissions[permission.key] = permission
    role = Role(id=_id("role"), key="org:member", name="Member", permissions=[permission.key], **times)
    instance.roles[role.key] = role
    member = Membership(id=_id("orgmem"), organization_id=organization.id, user_id=user.id, role=role.key, **times)
    memberships.restore(instance, member)
    client = Client(id=_id("client"), token="", session_ids=[_id("sess")], **times)
    sessions.restore_client(instance, client)
    return instance, {
        "user": user,
        "organization": organization,
        "organizationMembership": member,
        "permission": permission,
        "role": role,
        **_smaller(instance, user, organization, role, times),
    }


def _smaller(instance: Instance, user: User, organization: Organization, role: Role, times: Json) -> dict[str, Any]:
    invitation = OrganizationInvitation(
        id=_id("orginv"),
        organization_id=organization.id,
        email_address="newcomer@example.com",
        role=role.key,
        ticket="example",
        inviter_id=user.id,
        user_id=user.id,
        expires_at=AT + 30 * 86_400_000,
        **times,
    )
    organization_invitations.restore(instance, invitation)
    session = Session(
        id=_id("sess"),
        user_id=user.id,
        client_id=_id("client"),
        factor_verified_at=AT,
        last_active_at=AT,
        expire_at=AT + 7 * 86_400_000,
        abandon_at=AT + 30 * 86_400_000,
        **times,
    )
    domain = OrganizationDomain(
        id=_id("orgdmn"), organization_id=organization.id, name="example.com", verified_at=AT, **times
    )
    letter = {"subject": "Your code", "text": "Your code is 000000.", "code": "000000", "user_id": user.id, **times}
    return {
        "organizationInvitation": invitation,
        "session": session,
        "organizationDomain": domain,
        "waitlistEntry": WaitlistEntry(id=_id("wle"), email_address="newcomer@example.com", **times),
        "email": Mail(
            id=_id("ema"), slug="verification_code", to="casey@example.com", identification_id=_id("idn"), **letter
        ),
        "sms": Mail(
            id=_id("sms"),
            kind="sms",
            slug="verification_code",
            to="+15555550100",
            identification_id=_id("idn"),
            **letter,
        ),
    }
