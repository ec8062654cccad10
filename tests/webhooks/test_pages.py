"""The page of deliveries: found by what they are about, read without their secrets, and worked once more."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from instep.core.clock import DAY
from instep.core.db import Conn
from instep.mirror.tables import users
from instep.webhooks.tables import deliveries
from tests.support.console import PARTIAL, console_of
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pages(sqlite_firm: Firm) -> AsyncIterator[httpx2.AsyncClient]:
    async with console_of(sqlite_firm) as client:
        yield client


def ids(page: httpx2.Response) -> list[str]:
    return re.findall(r'<tr role="row" id="row-([^"]+)"', page.text)


def types(page: httpx2.Response) -> set[str]:
    return set(re.findall(r'row-open"[^>]*><bdi>([^<]+)</bdi>', page.text))


EVERY = sa.true()


def rows(firm: Firm, where: Any = EVERY) -> list[Any]:
    query = sa.select(deliveries).where(where).order_by(deliveries.c.received_at.desc(), deliveries.c.id.desc())
    return firm.services.db.read_sync(lambda conn: list(conn.execute(query)))


def park(firm: Firm, id: str, reason: str = "It can't be read.") -> None:
    parked = {"state": "parked", "outcome": reason, "due_at": None}

    def write(conn: Conn) -> None:
        conn.execute(sa.update(deliveries).where(deliveries.c.id == id).values(**parked))

    firm.services.db.write_sync(write)


async def test_what_came_is_listed_newest_first_with_what_it_did(sqlite_firm: Firm, pages: httpx2.AsyncClient) -> None:
    page = await pages.get("/deliveries")
    kept = [row.id for row in rows(sqlite_firm)]
    assert ids(page) == kept[:25]
    assert "Changed the database" in page.text
    assert "Maya · Northwind Law" in re.sub(r"</?bdi>", "", page.text)


async def test_it_is_found_by_state_type_person_organization_time_and_id(
    sqlite_firm: Firm, pages: httpx2.AsyncClient
) -> None:
    one = rows(sqlite_firm)[3].id
    assert ids(await pages.get("/deliveries", params={"q": f" {one} "})) == [one]
    assert types(await pages.get("/deliveries", params={"q": "user.created"})) == {"user.created"}
    assert types(await pages.get("/deliveries", params={"type": "organization"})) == {"organization.created"}
    person = await pages.get("/deliveries", params={"person": "maya"})
    maya = sqlite_firm.user_id("maya@example.com")
    assert ids(person) == [row.id for row in rows(sqlite_firm, deliveries.c.user_id == maya)]
    assert types(person) == {"user.created", "organizationMembership.created"}
    assert ids(await pages.get("/deliveries", params={"person": maya})) == ids(person)
    assert "Several people match" in (await pages.get("/deliveries", params={"person": "example.com"})).text
    assert "No one matches" in (await pages.get("/deliveries", params={"person": "nobody"})).text
    places = re.findall(r'<option value="(ogn_[^"]+)"', person.text)
    firm = await pages.get("/deliveries", params={"organization": places[0]})
    assert "user.created" not in types(firm)
    assert len(ids(firm)) >= 4
    tomorrow = sqlite_firm.clock() + DAY
    assert ids(await pages.get("/deliveries", params={"since": _date(tomorrow)})) == []
    assert len(ids(await pages.get("/deliveries", params={"until": _date(tomorrow)}))) > 5
    assert "No failed deliveries" in (await pages.get("/deliveries?state=parked")).text
    assert "No such delivery" in (await pages.get("/deliveries?q=msg_none")).text


def _date(at: int) -> str:
    from instep.core.clock import to_datetime

    return to_datetime(at).date().isoformat()


async def test_the_rest_is_a_page_further(sqlite_firm: Firm, pages: httpx2.AsyncClient) -> None:
    sqlite_firm.emulator.seed({"users": [{"email_address": f"p{n}@example.com"} for n in range(30)], "events": True})
    await sqlite_firm.settle()
    first = await pages.get("/deliveries")
    more = re.search(r'id="more"[^>]*href="([^"]+)"', first.text)
    assert more is not None
    rest = await pages.get(more[1].replace("&amp;", "&"), headers=PARTIAL)
    assert ids(first) + ids(rest) == [row.id for row in rows(sqlite_firm)][:50]


async def test_one_is_told_in_full_without_its_secrets(sqlite_firm: Firm, pages: httpx2.AsyncClient) -> None:
    invitation = next(row for row in rows(sqlite_firm) if row.type == "organizationInvitation.created")
    assert "ticket" in invitation.body, "Clerk sends the accept link"
    page = (await pages.get(f"/deliveries/{invitation.id}")).text
    assert "ada@example.com" in page
    assert "ticket=" not in page
    membership = next(row for row in rows(sqlite_firm) if row.type == "organizationMembership.created")
    drawer = (await pages.get(f"/deliveries/{membership.id}", headers=PARTIAL)).text
    assert "<dialog" in drawer
    assert "Membership changed in Clerk" in drawer
    assert (await pages.get("/deliveries/none")).status_code == 404


async def test_a_parked_one_is_counted_shown_with_its_reason_and_replayed(
    sqlite_firm: Firm, pages: httpx2.AsyncClient
) -> None:
    one = next(row for row in rows(sqlite_firm) if row.type == "user.created")
    people = _people(sqlite_firm)
    park(sqlite_firm, one.id)
    page = await pages.get("/deliveries?state=parked")
    assert ids(page) == [one.id]
    assert "It can&#39;t be read." in page.text
    assert re.search(r'id="badge-parked"><span class="side-badge">1<', page.text)
    calls, sent = len(sqlite_firm.emulator.control.request_log.list()), len(rows(sqlite_firm))
    again = await pages.post(f"/deliveries/{one.id}/replay")
    assert (again.status_code, again.headers["location"]) == (303, "/deliveries")
    assert (await pages.post(f"/deliveries/{one.id}/replay", headers=PARTIAL)).status_code == 409, "it waits already"
    await sqlite_firm.settle()
    (after,) = rows(sqlite_firm, deliveries.c.id == one.id)
    assert (after.state, after.outcome) == ("settled", "same")
    assert _people(sqlite_firm) == people
    assert len(sqlite_firm.emulator.control.request_log.list()) == calls, "nothing was asked of Clerk or changed there"
    assert len(rows(sqlite_firm)) == sent
    assert "Replay delivery" in (await pages.get(f"/deliveries/{one.id}")).text
    assert 'side-badge"' not in (await pages.get("/deliveries")).text


def _people(firm: Firm) -> list[Any]:
    return firm.services.db.read_sync(lambda conn: list(conn.execute(sa.select(users).order_by(users.c.id))))


async def test_many_are_replayed_and_each_is_told(sqlite_firm: Firm, pages: httpx2.AsyncClient) -> None:
    first, second, third = rows(sqlite_firm)[:3]
    park(sqlite_firm, first.id)
    await pages.post(f"/deliveries/{third.id}/replay")
    chosen = {"delivery": [first.id, second.id, third.id]}
    told = await pages.post("/deliveries/replay", data=chosen, headers=PARTIAL)
    assert "2 done, 1 skipped" in told.text
    assert "has not been processed yet" in told.text
    assert "region-changed" in told.headers["hx-trigger"]
    assert {row.state for row in rows(sqlite_firm)[:3]} == {"new"}
    assert (await pages.post("/deliveries/replay", headers=PARTIAL)).status_code == 422


async def test_another_site_replays_nothing(sqlite_firm: Firm, pages: httpx2.AsyncClient) -> None:
    one = rows(sqlite_firm)[0].id
    for path, form in ((f"/deliveries/{one}/replay", {}), ("/deliveries/replay", {"delivery": one})):
        answer = await pages.post(path, data=form, headers={"origin": "https://elsewhere.example"})
        assert answer.status_code == 403
    assert {row.state for row in rows(sqlite_firm)} == {"settled"}


async def test_without_any_the_page_says_how_to_connect(sqlite_firm: Firm) -> None:
    token = await sqlite_firm.services.sign_in_pages.sessions.open_break_glass()
    api = sqlite_firm.api(None, cookie=f"instep_session={token}")
    assert "No webhooks received yet" in (await api.get("/deliveries")).text
