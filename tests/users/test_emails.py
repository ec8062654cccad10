"""Email changes by each of the three policies: no user is locked out unnoticed."""

import pytest

from instep.auth.principal import BREAK_GLASS_PRINCIPAL
from instep.core.clock import DAY
from instep.domain.errors import ChangeRejectedError
from instep.operations.workflow import OperationPendingError
from instep.users.models import EmailChange, UserChanges
from tests.support.world import Firm
from tests.users.firms import (
    ADA,
    BOB,
    CLEO,
    LOU,
    clerk_user,
    furnish,
    operations,
    person,
    principal_of,
    recover,
    refuse,
    require_equal,
    silence,
    standing,
    stop_everywhere,
    users_of,
)

pytestmark = pytest.mark.anyio
NEW = "robert+clerk_test@example.com"  # to such an address Clerk sends nothing; its code is fixed
CODE = "424242"
SOLO = "solo@example.com"


def invited(firm: Firm) -> list[tuple[str, str, str]]:
    """(address, role, status) of Clerk's invitations, oldest first."""
    state = firm.emulator.state
    rows = state.organization_invitations.oldest_first()
    return [(it.email_address, it.role, it.status(state.now)) for it in rows]


async def test_reinviting_invites_first_and_then_deactivates_the_old_account(firm: Firm) -> None:
    await furnish(firm)
    async with firm.api() as api:
        path = f"/v1/users/{firm.user_id(BOB)}"
        offered = (await api.patch(path, json={"email": NEW})).json()
        assert (offered["requires_invitation"], invited(firm)) == (True, [])
        done = (await api.post(f"{path}/email", json={"email": NEW}, headers={"Idempotency-Key": "k"})).json()
        again = (await api.post(f"{path}/email", json={"email": NEW}, headers={"Idempotency-Key": "k"})).json()
        old = (await api.get(path)).json()
    assert [(it["name"], it["state"]) for it in done["organizations"]] == [("Acme", "invited"), ("Beta", "invited")]
    assert again == done
    assert invited(firm) == [(NEW, "org:member", "pending")] * 2
    assert (old["status"], old["email"]) == ("deactivated", BOB)
    assert await standing(firm, BOB) == [("org:member", "deactivated")] * 2
    await firm.settle()
    assert (await person(firm, BOB)).is_active is False
    await require_equal(firm)


async def make_user_without_organization(firm: Firm) -> str:
    """Create a user without an organization; return Clerk's id."""
    await furnish(firm)
    await users_of(firm).create(BREAK_GLASS_PRINCIPAL, UserChanges(email=SOLO, first_name="Solo"))
    return firm.user_id(SOLO)


async def test_a_user_without_organization_is_invited_to_the_application_and_then_deactivated(
    firm: Firm,
) -> None:
    path = f"/v1/users/{await make_user_without_organization(firm)}"
    async with firm.api() as api:
        offered = (await api.patch(path, json={"email": NEW})).json()
        assert offered["consequences"][0] == f"{NEW} is invited to the application, and {SOLO} is deactivated."
        done = (await api.post(f"{path}/email", json={"email": NEW}, headers={"Idempotency-Key": "k"})).json()
        again = (await api.post(f"{path}/email", json={"email": NEW}, headers={"Idempotency-Key": "k"})).json()
    assert done["outcome"] == "invited"
    assert again == done
    assert [it.email_address for it in firm.emulator.state.invitations.oldest_first()] == [NEW]
    assert (await person(firm, SOLO)).is_active is False


async def test_reinviting_a_user_without_organization_is_done_once_after_any_crash(firm: Firm) -> None:
    await furnish(firm)

    async def prepare(n: int) -> object:
        return await users_of(firm).create(BREAK_GLASS_PRINCIPAL, UserChanges(email=f"old{n}@example.com"))

    async def act(n: int) -> object:
        id = (await person(firm, f"old{n}@example.com")).id
        return await users_of(firm).change_email(BREAK_GLASS_PRINCIPAL, id, f"new{n}@example.com")

    async def hold(n: int, was_kept: bool) -> None:
        made = [it.email_address for it in firm.emulator.state.invitations.oldest_first()]
        assert made.count(f"new{n}@example.com") == was_kept
        assert (await person(firm, f"old{n}@example.com")).is_active is not was_kept

    kind = "profile.reinvite.application"
    assert await stop_everywhere(firm, act, hold, kind=kind, prepare=prepare) > 15


async def test_the_old_account_works_while_an_invitation_is_refused(firm: Firm) -> None:
    await furnish(firm)
    refuse(firm, "CreateOrganizationInvitation", "organization_membership_quota_exceeded", status=403)
    done = await users_of(firm).change_email(BREAK_GLASS_PRINCIPAL, firm.user_id(BOB), NEW)
    assert [(it.name, it.state) for it in done.organizations] == [("Acme", "refused"), ("Beta", "invited")]
    assert "All seats are in use." in (done.organizations[0].detail or "")
    assert await standing(firm, BOB) == [("org:member", "active"), ("org:member", "deactivated")]
    assert (await person(firm, BOB)).is_active


async def test_a_refusal_everywhere_is_an_error_and_changes_nothing(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    for _ in range(2):
        refuse(firm, "CreateOrganizationInvitation", "organization_membership_quota_exceeded", status=403)
    with pytest.raises(ChangeRejectedError) as caught:
        await users_of(firm).change_email(BREAK_GLASS_PRINCIPAL, firm.user_id(BOB), NEW)
    assert (caught.value.code, caught.value.clerk_code) == (
        "clerk_sync_failed",
        "organization_membership_quota_exceeded",
    )
    assert await standing(firm, BOB) == [("org:member", "active")] * 2


async def test_an_organization_admin_reinvites_only_there(firm: Firm) -> None:
    await furnish(firm)
    ada = await principal_of(firm, ADA)
    offered = await users_of(firm).edit_profile(ada, firm.user_id(BOB), UserChanges(email=NEW))
    assert isinstance(offered, EmailChange)
    assert not any("Beta" in text for text in offered.consequences)
    done = await users_of(firm).change_email(ada, firm.user_id(BOB), NEW)
    assert [it.name for it in done.organizations] == ["Acme"]
    assert await standing(firm, BOB) == [("org:member", "deactivated"), ("org:member", "active")]
    assert (await person(firm, BOB)).is_active
    with pytest.raises(ChangeRejectedError, match="Ask an admin"):
        await users_of(firm).change_email(await principal_of(firm, BOB), firm.user_id(BOB), NEW)


async def test_a_lost_response_to_the_invitation_is_resolved(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    silence(firm, "POST", "/invitations", after=True)
    silence(firm, "POST", "/invitations", after=False)
    done = await users_of(firm).change_email(BREAK_GLASS_PRINCIPAL, firm.user_id(BOB), NEW)
    assert [it.state for it in done.organizations] == ["invited", "checking"]
    assert (await person(firm, BOB)).is_active
    await recover(firm)
    assert invited(firm) == [(NEW, "org:member", "pending")] * 2
    assert not (await person(firm, BOB)).is_active


async def test_a_forced_change_replaces_the_address_on_both_sides(firm: Firm) -> None:
    await furnish(firm, policy="force")
    async with firm.api() as api:
        done = (await api.patch(f"/v1/users/{firm.user_id(BOB)}", json={"email": NEW})).json()
    assert (done["outcome"], done["requires_invitation"]) == ("changed", False)
    assert (await person(firm, NEW)).is_email_verified
    there = clerk_user(firm, firm.user_id(NEW))
    assert there is not None
    assert [it.email_address for it in there.email_addresses] == [NEW]
    await firm.settle()
    await require_equal(firm)


@pytest.mark.parametrize("after", [True, False])
async def test_a_lost_response_to_a_forced_change_is_resolved(sqlite_firm: Firm, after: bool) -> None:
    firm = await furnish(sqlite_firm, policy="force")
    silence(firm, "PUT", "/email_address", after=after)
    if after:
        await users_of(firm).change_email(BREAK_GLASS_PRINCIPAL, firm.user_id(BOB), NEW)
    else:
        with pytest.raises(OperationPendingError):
            await users_of(firm).change_email(BREAK_GLASS_PRINCIPAL, firm.user_id(BOB), NEW)
        await recover(firm)
    assert (await person(firm, NEW)).username == "bobby"
    await require_equal(firm)


async def test_only_instance_admins_force_an_address(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm, policy="force")
    for email in (ADA, BOB):
        with pytest.raises(ChangeRejectedError, match="instance admins"):
            await users_of(firm).change_email(await principal_of(firm, email), firm.user_id(BOB), NEW)


async def request_code(firm: Firm) -> EmailChange:
    """Bob requests a code for the new address."""
    bob = await principal_of(firm, BOB)
    started = await users_of(firm).change_email(bob, firm.user_id(BOB), NEW)
    assert (started.outcome, started.email) == ("requires_verification", NEW)
    return started


async def enter_code(firm: Firm, started: EmailChange, code: str = CODE, *, old: str = BOB) -> EmailChange:
    """Bob enters the code."""
    bob = await principal_of(firm, old)
    assert started.verification is not None
    return await users_of(firm).verify_email(bob, firm.user_id(old), started.verification, code)


async def test_the_database_changes_when_the_code_is_verified(firm: Firm) -> None:
    await furnish(firm, policy="verify")
    async with firm.api() as api:
        path = f"/v1/users/{(await person(firm, BOB)).id}"
        started = (await api.patch(path, json={"email": NEW})).json()
        assert (started["requires_verification"], started["outcome"]) == (True, "requires_verification")
        assert started["expires_at"] is not None
        await firm.settle()
        assert (await api.get(path)).json()["email"] == BOB
        body = {"verification": started["verification"], "code": CODE}
        wrong = await api.post(f"{path}/email/verify", json=body | {"code": "000000"})
        assert (wrong.status_code, wrong.json()["code"], wrong.json()["field"]) == (422, "wrong_code", "code")
        done = (await api.post(f"{path}/email/verify", json=body)).json()
        assert (done["outcome"], done["note"]) == ("changed", None)
        assert (await api.get(path)).json()["email"] == NEW
    there = clerk_user(firm, firm.user_id(NEW))
    assert there is not None
    assert [it.email_address for it in there.email_addresses] == [NEW]
    await firm.settle()
    await require_equal(firm)
    assert not any(CODE in str(it) for it in await operations(firm))


async def test_a_code_is_valid_only_for_its_user_and_its_lifetime(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm, policy="verify")
    started = await request_code(firm)
    assert started.verification is not None
    for principal, ref in ((BREAK_GLASS_PRINCIPAL, CLEO), (BREAK_GLASS_PRINCIPAL, ADA)):
        with pytest.raises(ChangeRejectedError, match="This verification does not exist"):
            await users_of(firm).verify_email(principal, firm.user_id(ref), started.verification, CODE)
    firm.clock.advance(DAY)
    with pytest.raises(ChangeRejectedError, match="This code has expired"):
        await enter_code(firm, started)
    assert (await person(firm, BOB)).email == BOB
    await enter_code(firm, await request_code(firm))
    assert (await person(firm, NEW)).username == "bobby"


@pytest.mark.parametrize("call", ["attempt_verification", "/users/", "/email_addresses/"])
async def test_a_lost_response_to_a_verification_is_resolved(sqlite_firm: Firm, call: str) -> None:
    firm = await furnish(sqlite_firm, policy="verify")
    started = await request_code(firm)
    method = {"attempt_verification": "POST", "/users/": "PATCH", "/email_addresses/": "DELETE"}[call]
    silence(firm, method, call, after=True)
    try:
        await enter_code(firm, started)
    except OperationPendingError:
        await recover(firm)
    assert (await person(firm, NEW)).username == "bobby"
    await firm.settle()
    await require_equal(firm)


async def test_a_code_that_was_not_tried_must_be_entered_again(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm, policy="verify")
    started = await request_code(firm)
    silence(firm, "POST", "attempt_verification", after=False)
    with pytest.raises(OperationPendingError):
        await enter_code(firm, started)
    await recover(firm)
    assert [it.code for it in await operations(firm, "profile.email.verify")] == ["code_lost"]
    await enter_code(firm, started)
    assert (await person(firm, NEW)).username == "bobby"


async def test_an_old_address_that_clerk_keeps_is_noted(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm, policy="verify")
    started = await request_code(firm)
    refuse(firm, "DeleteEmailAddress", "delete_linked_identification_disallowed", status=400)
    done = await enter_code(firm, started)
    assert done.note == "Clerk kept the old address as well: No: delete_linked_identification_disallowed."
    assert (await person(firm, NEW)).username == "bobby"


async def test_a_verified_address_that_is_not_primary_needs_attention(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm, policy="verify")
    started = await request_code(firm)
    refuse(firm, "UpdateUser", "form_param_value_invalid")
    with pytest.raises(ChangeRejectedError, match="is not primary yet; the old one still works"):
        await enter_code(firm, started)
    assert (await operations(firm, "profile.email.verify"))[0].state == "attention"
    assert (await person(firm, BOB)).email == BOB


async def test_a_user_without_a_clerk_account_gets_the_address_immediately(firm: Firm) -> None:
    await furnish(firm)
    done = await users_of(firm).change_email(BREAK_GLASS_PRINCIPAL, (await person(firm, LOU)).id, NEW)
    assert done.outcome == "changed"
    assert (await person(firm, NEW)).first_name == "Lou"
