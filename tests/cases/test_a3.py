"""A3: a person whom a directory deprovisioned is barred as one who is banned is, with a reason of its own."""

from typing import Any

import pytest

from instep.auth.authenticator import SESSION_COOKIE
from instep.domain.events import compute_digest
from instep.domain.models import ClerkId, ClerkUser, SessionClaims
from tests.cases.mirror_events import DANA, MAYA, OMAR, SLUG, deliver, found, people, settled, statuses, user_of
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


async def test_a3_a_deprovisioned_admin_may_neither_read_nor_invite_until_it_is_lifted(firm: Firm) -> None:
    await settled(firm)
    claims = SessionClaims(user=firm.user_id(DANA), session="sess_dana")
    cookie = {"cookie": f"{SESSION_COOKIE}={await firm.services.authenticator.sessions.open(claims)}"}
    dana = firm.api(None, **cookie)
    assert (await dana.get(f"/v1/organizations/{SLUG}/people")).status_code == 200

    await deliver(firm, "user.updated", await user_of(firm, DANA, deprovisioned=True))
    assert (await dana.get(f"/v1/organizations/{SLUG}/people")).status_code in (401, 403)
    invited = await dana.post(f"/v1/organizations/{SLUG}/invitations", json={"email": "new@example.com"})
    assert invited.status_code in (401, 403)

    await deliver(firm, "user.updated", await user_of(firm, DANA, deprovisioned=False))
    assert (await dana.get(f"/v1/organizations/{SLUG}/people")).status_code == 200


async def directory_at(firm: Firm) -> str:
    """Make a directory in the emulator; return its path."""
    made = await firm.browser().post("/_emulator/directories", json={"name": "Okta"})
    assert made.is_success, made.text
    return f"/_emulator/directories/{made.json()['id']}"


async def without(firm: Firm, email: str) -> dict[str, Any]:
    """Return a user as an instance without directories shows them."""
    user = await user_of(firm, email)
    user.pop("deprovisioned", None)
    return user


async def test_a3_a_person_is_let_in_again_though_clerk_leaves_out_what_is_false(firm: Firm) -> None:
    await settled(firm)
    firm.emulator.state.settings.change({"omitted": ["*"], "webhook_loss_percent": 0})
    directory = await directory_at(firm)
    await firm.browser().post(f"{directory}/users", json={"user": DANA, "active": False})
    await firm.settle()
    assert (await statuses(firm))[DANA] == ["org:admin deprovisioned"]
    await firm.browser().post(f"{directory}/users", json={"user": DANA, "active": True})
    await firm.settle()
    assert "deprovisioned" not in await user_of(firm, DANA)
    assert (await statuses(firm))[DANA] == ["org:admin active"]


async def test_a3_a_webhook_that_does_not_say_it_lets_nobody_in_whom_clerk_bars(firm: Firm) -> None:
    await settled(firm)
    directory = await directory_at(firm)
    await firm.browser().post(f"{directory}/users", json={"user": DANA, "active": False})
    await firm.settle()
    assert (await statuses(firm))[DANA] == ["org:admin deprovisioned"]
    await deliver(firm, "user.updated", await without(firm, DANA))
    assert (await statuses(firm))[DANA] == ["org:admin deprovisioned"]


async def test_a3_sync_lets_a_person_in_again_whose_last_directory_is_gone(firm: Firm) -> None:
    """An instance without directories has no such field."""
    await settled(firm)
    directory = await directory_at(firm)
    await firm.browser().post(f"{directory}/users", json={"user": DANA, "active": False})
    await firm.settle()
    assert (await statuses(firm))[DANA] == ["org:admin deprovisioned"]
    firm.emulator.webhooks.is_muted = True
    assert (await firm.browser().delete(directory)).is_success
    assert "deprovisioned" not in await user_of(firm, DANA)
    await firm.sync()
    assert (await statuses(firm))[DANA] == ["org:admin active"]


async def test_a3_a_deprovisioned_person_is_shown_with_that_reason_and_counted_as_such(firm: Firm) -> None:
    await settled(firm)
    await deliver(firm, "user.updated", await user_of(firm, DANA, deprovisioned=True))

    assert (await statuses(firm))[DANA] == ["org:admin deprovisioned"]
    totals = (await people(firm))["totals"]
    assert (totals["active"], totals["deprovisioned"], totals["admins"]) == (2, 1, 1)
    user = found(await firm.api().get(f"/v1/users/{firm.user_id(DANA)}"))
    assert user["status"] == "deprovisioned"
    assert [it["status"] for it in user["organizations"]] == ["deprovisioned"]
    listed = found(await firm.api().get("/v1/users", params={"status": "deprovisioned"}))
    assert [it["email"] for it in listed["data"]] == [DANA]
    page = await firm.api().get(f"/organizations/{SLUG}/members")
    assert "Deprovisioned" in page.text
    export = await firm.api().get(f"/v1/organizations/{SLUG}/people/export", params={"format": "csv"})
    assert "deprovisioned" in export.text

    await deliver(firm, "user.updated", await user_of(firm, DANA, deprovisioned=False))
    assert (await statuses(firm))[DANA] == ["org:admin active"]


async def test_a3_a_deprovisioned_admin_does_not_count_for_the_last_admin(firm: Firm) -> None:
    await settled(firm)
    await deliver(firm, "user.updated", await user_of(firm, DANA, deprovisioned=True))

    path = f"/v1/organizations/{SLUG}/members/{firm.user_id(MAYA)}"
    refused = await firm.api().patch(path, json={"role": "org:member"})
    assert (refused.status_code, refused.json()["code"]) == (409, "last_admin")


async def test_a3_a_locked_person_is_not_barred(firm: Firm) -> None:
    await settled(firm)
    await deliver(firm, "user.updated", await user_of(firm, OMAR, locked=True))
    assert (await statuses(firm))[OMAR] == ["org:member active"]


async def test_a3_whoever_joins_while_deprovisioned_is_barred_from_the_start(firm: Firm) -> None:
    await settled(firm)
    made = await firm.clerk().post("/v1/users", json={"email_address": ["new@example.com"]})
    await firm.settle()
    await deliver(firm, "user.updated", await user_of(firm, "new@example.com", deprovisioned=True))
    joining = {"user_id": made.json()["id"], "role": "org:member"}
    await firm.clerk().post(f"/v1/organizations/{firm.organization_id(SLUG)}/memberships", json=joining)
    await firm.settle()
    assert (await statuses(firm))["new@example.com"] == ["org:member deprovisioned"]


def test_a3_the_digest_of_everybody_else_is_what_it_was_before() -> None:
    """Prevents an update of instep from reading every user again. The value is from commit f736aa0."""
    user = ClerkUser(clerk_id=ClerkId("user_1"), email="a@example.com", is_email_verified=True, first_name="A")
    assert compute_digest(user) == "562b250bb0c4829288356860"
