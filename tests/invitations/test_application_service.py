"""Application invitations: the role and the organization apply from the moment the person signs up."""

from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from clerk_emulator.wire.organization_json import accept_url
from instep.audit.filters import AuditFilter
from instep.audit.repository import list_entries
from instep.auth.principal import BREAK_GLASS_PRINCIPAL, Principal
from instep.auth.repository import find_principal
from instep.core.db import Conn
from instep.invitations.models import ApplicationInvitationRequest
from instep.invitations.policies import InvitationRefusedError
from instep.mirror.tables import memberships, organizations, users
from instep.operations.workflow import OperationPendingError
from tests.invitations.firms import ADA, BOB, accept, furnish, mortal, next_day, operations, recover
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
MAYA = "maya@example.com"
CREATE, REVOKE = "CreateInvitation", "RevokeInvitation"


async def furnish_locally(firm: Firm) -> Firm:
    """Create the seed data and a local organization."""

    def put(conn: Conn) -> None:
        row = {"id": "ogn_local", "name": "Local", "slug": "local", "joined_at": 1, "changed_at": 1}
        conn.execute(sa.insert(organizations).values(**row))

    await furnish(firm)
    await firm.services.db.write(put)
    return firm


def in_clerk(firm: Firm, email: str = MAYA) -> list[Any]:
    return [it for it in firm.emulator.state.invitations.oldest_first() if it.email_address == email]


def statuses(firm: Firm, email: str = MAYA) -> list[str]:
    return [it.status(firm.emulator.state.now) for it in in_clerk(firm, email)]


async def sign_up(firm: Firm, email: str = MAYA) -> None:
    (found,) = in_clerk(firm, email)
    site = firm.emulator.site.url
    assert await accept(firm, accept_url(site, found.ticket)) < 400
    await firm.settle()


async def refusal(
    firm: Firm, wanted: ApplicationInvitationRequest, principal: Principal = BREAK_GLASS_PRINCIPAL
) -> tuple[str, int, str]:
    with pytest.raises(InvitationRefusedError) as caught:
        await firm.services.application_invitations.invite(principal, wanted)
    return caught.value.code, caught.value.status, str(caught.value)


async def test_an_invitee_who_signs_up_joins_the_local_organization(firm: Firm) -> None:
    await furnish_locally(firm)
    applications = firm.services.application_invitations
    made = await applications.invite(
        BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email=MAYA, role="admin", organization="local")
    )
    assert (made.status, made.public_metadata["role"], made.public_metadata["organization"]) == (
        "pending",
        "org:admin",
        "ogn_local",
    )
    await sign_up(firm)
    query = sa.select(memberships.c.role, memberships.c.status).join(users).where(users.c.email == MAYA)
    assert firm.services.db.read_sync(lambda conn: list(map(tuple, conn.execute(query)))) == [("org:admin", "active")]
    (entry,) = await firm.services.db.read(list_entries, AuditFilter(action="membership.joined"))
    assert entry.organization_id == "ogn_local"
    found = await firm.services.db.read(find_principal, firm.user_id(MAYA), admins=frozenset())
    assert isinstance(found, Principal)
    assert not found.is_instance_admin, "an admin of one organization is none of the installation"


async def test_an_invitee_gets_the_application_role(sqlite_firm: Firm) -> None:
    firm = await furnish_locally(sqlite_firm)
    await firm.services.application_invitations.invite(
        BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email=MAYA, role="admin")
    )
    await sign_up(firm)
    found = await firm.services.db.read(find_principal, firm.user_id(MAYA), admins=frozenset())
    assert isinstance(found, Principal)
    assert found.is_instance_admin


async def test_invalid_values_are_refused_before_calling_clerk(sqlite_firm: Firm) -> None:
    firm = await furnish_locally(sqlite_firm)
    wanted = ApplicationInvitationRequest(email=MAYA)
    refusals = [
        (await refusal(firm, it))[:2]
        for it in (
            replace(wanted, email="nobody"),
            replace(wanted, role="org:admin"),
            replace(wanted, role="Admin!"),
            replace(wanted, expires_in_days=366),
            replace(wanted, organization="nowhere"),
            replace(wanted, organization="acme"),
        )
    ]
    assert refusals == [
        ("invalid_email", 422),
        ("unknown_role", 422),
        ("unknown_role", 422),
        ("invalid_expiry", 422),
        ("organization_not_found", 404),
        ("not_local", 409),
    ]
    assert await operations(firm, "application.invite") == []


async def test_only_instance_admins_can_use_it(sqlite_firm: Firm) -> None:
    firm = await furnish_locally(sqlite_firm)
    ada = await firm.services.db.read(find_principal, firm.user_id(ADA), admins=frozenset())
    assert isinstance(ada, Principal)
    reader = replace(BREAK_GLASS_PRINCIPAL, scopes=frozenset({"read"}))
    for principal in (ada, reader):
        assert (await refusal(firm, ApplicationInvitationRequest(email=MAYA), principal))[:2] == ("forbidden", 403)
        with pytest.raises(InvitationRefusedError, match="Only instance admins can invite"):
            await firm.services.application_invitations.list(principal)
        with pytest.raises(InvitationRefusedError, match="Only instance admins can invite"):
            await firm.services.application_invitations.revoke(principal, "inv_1")


async def test_refusals_of_clerk_become_readable_errors(sqlite_firm: Firm) -> None:
    firm = await furnish_locally(sqlite_firm)
    applications = firm.services.application_invitations
    await applications.invite(BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email=MAYA))
    assert await refusal(firm, ApplicationInvitationRequest(email=MAYA)) == (
        "already_invited",
        409,
        "maya@example.com already has a pending invitation.",
    )
    assert await refusal(firm, ApplicationInvitationRequest(email=BOB)) == (
        "already_user",
        409,
        f"{BOB} already has an account.",
    )


async def test_revoking_pending_and_ended_invitations(sqlite_firm: Firm) -> None:
    firm = await furnish_locally(sqlite_firm)
    applications = firm.services.application_invitations
    made = await applications.invite(BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email=MAYA))
    assert [it.clerk_id for it in await applications.list(BREAK_GLASS_PRINCIPAL, status="pending")] == [made.clerk_id]
    assert (await applications.revoke(BREAK_GLASS_PRINCIPAL, made.clerk_id)).status == "revoked"
    assert await applications.list(BREAK_GLASS_PRINCIPAL) == []
    assert [it.clerk_id for it in await applications.list(BREAK_GLASS_PRINCIPAL, status="revoked")] == [made.clerk_id]
    other = await applications.invite(BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email="leo@example.com"))
    await sign_up(firm, "leo@example.com")
    for id, code in (
        (made.clerk_id, "already_revoked"),
        (other.clerk_id, "already_accepted"),
        ("inv_none", "not_in_clerk"),
        ("../users", "not_in_clerk"),
    ):
        with pytest.raises(InvitationRefusedError) as caught:
            await applications.revoke(BREAK_GLASS_PRINCIPAL, id)
        assert caught.value.code == code


async def test_a_lost_answer_is_read_back(sqlite_firm: Firm) -> None:
    firm = await furnish_locally(sqlite_firm)
    applications = firm.services.application_invitations
    firm.emulator.fail(CREATE, status=504, after_effect=True, count=1)
    made = await applications.invite(BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email=MAYA))
    firm.emulator.fail(REVOKE, status=504, after_effect=True, count=1)
    assert (await applications.revoke(BREAK_GLASS_PRINCIPAL, made.clerk_id)).status == "revoked"
    firm.emulator.fail(CREATE, status=429, retry_after=60, count=1)
    with pytest.raises(OperationPendingError):
        await applications.invite(BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email=MAYA))
    await recover(firm)
    assert statuses(firm) == ["revoked", "pending"]


async def test_the_daily_limit_is_one_hundred(sqlite_firm: Firm) -> None:
    firm = await furnish_locally(sqlite_firm)
    applications = firm.services.application_invitations
    for number in range(100):
        await applications.invite(BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email=f"p{number}@example.com"))
    assert (await refusal(firm, ApplicationInvitationRequest(email=MAYA)))[:2] == ("limited", 429)
    next_day(firm)
    await applications.invite(BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email=MAYA))


async def test_inviting_and_revoking_survive_a_crash_at_any_point(firm: Firm) -> None:
    """Stop at every statement, commit and boundary of a call, then recover."""
    await furnish_locally(firm)
    applications = firm.services.application_invitations
    points = mortal(firm)
    at = 0
    while True:
        at += 1
        next_day(firm)
        one, other = f"maya{at}@example.com", f"leo{at}@example.com"
        made = await applications.invite(BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email=other))
        with points.armed(at):
            await applications.invite(BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email=one))
        where = points.where
        with points.armed(at):
            await applications.revoke(BREAK_GLASS_PRINCIPAL, made.clerk_id)
        where += points.where
        if not where:
            break
        with points.armed(1 + at % 7):
            await recover(firm, times=1)
        await recover(firm, times=3)
        found = await operations(firm)
        invited = [it.state for it in found if it.intent.get("email") == one]
        revoked = [it.state for it in found if it.intent.get("invitation") == made.clerk_id]
        assert (invited, revoked) in [(a, b) for a in ([], ["settled"]) for b in ([], ["settled"])], where
        assert statuses(firm, one) == ["pending"] * len(invited), where
        assert statuses(firm, other) == ["revoked" if revoked else "pending"], where
    assert at > 10, "the places are really there"


async def test_resending_survives_a_crash_at_any_point(firm: Firm) -> None:
    await furnish_locally(firm)
    applications = firm.services.application_invitations
    points = mortal(firm)
    at = 0
    while True:
        at += 1
        next_day(firm)
        email = f"maya{at}@example.com"
        made = await applications.invite(BREAK_GLASS_PRINCIPAL, ApplicationInvitationRequest(email=email))
        next_day(firm)
        with points.armed(at):
            await applications.resend(BREAK_GLASS_PRINCIPAL, made.clerk_id)
        where = points.where
        if not where:
            break
        with points.armed(1 + at % 7):
            await recover(firm, times=1)
        await recover(firm, times=3)
        again = [it.state for it in await operations(firm) if it.intent.get("invitation") == made.clerk_id]
        assert again in ([], ["settled"]), where
        assert statuses(firm, email) == (["revoked", "pending"] if again else ["pending"]), where
    assert at > 10, "the places are really there"
