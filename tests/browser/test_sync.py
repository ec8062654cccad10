"""Promises of Sync and Deliveries in a browser: drift is shown and mended as chosen, what is parked is replayed."""

import re
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from instep.core.clock import HOUR
from instep.core.db import Conn
from instep.sync import repository
from instep.sync.models import Freshness
from instep.webhooks.tables import deliveries
from tests.browser.conftest import Office
from tests.browser.test_members import faults_by_axe
from tests.support.browser import Colours, NewPage, Size
from tests.support.console import SEED


async def move_in(office: Office) -> None:
    office.firm.emulator.seed(SEED)
    await office.firm.settle()


async def drift(office: Office) -> None:
    """Clerk changes a name and a role, and no webhook is carried."""
    firm = office.firm
    organization = firm.organization_id("northwind-law")
    maya, omar = firm.user_id("maya@example.com"), firm.user_id("omar@example.com")
    await firm.clerk().patch(f"/v1/users/{maya}", json={"first_name": "Maja"})
    await firm.clerk().patch(f"/v1/organizations/{organization}/memberships/{omar}", json={"role": "org:admin"})


def work(office: Office) -> None:
    """What a worker does within a second."""
    office.run(office.firm.services.sync_services.run_queue.run_once())


def park_one(office: Office) -> str:
    def write(conn: Conn) -> str:
        query = sa.select(deliveries.c.id).where(deliveries.c.type == "user.created").limit(1)
        id = str(conn.execute(query).scalar_one())
        parked: dict[str, Any] = {"state": "parked", "outcome": "It can't be read."}
        conn.execute(sa.update(deliveries).where(deliveries.c.id == id).values(**parked))
        return id

    return office.run(office.firm.services.db.write(write))


def test_drift_is_found_planned_and_mended_as_chosen(office: Office, page: Page) -> None:
    office.run(move_in(office))
    office.run(drift(office))
    office.enter(page).goto(f"{office.origin}/sync")
    page.get_by_role("button", name="Check status").click()
    expect(page.get_by_text("waiting for a worker")).to_be_visible()
    expect(page.get_by_role("button", name="Plan changes")).to_be_disabled()
    work(office)
    expect(page.get_by_role("link", name="1 Field differs")).to_be_visible()
    page.get_by_role("button", name="Plan changes").click()
    expect(page).to_have_url(re.compile(r"/sync/runs/syn_"))
    work(office)

    name = page.get_by_role("row", name="Field differs: maya@example.com")
    expect(name.locator(".diff-before")).to_contain_text("Maya")
    expect(name.locator(".diff-after")).to_contain_text("Maja")
    name.get_by_role("checkbox").check()
    page.locator("#apply-chosen").click()
    question = page.get_by_role("alertdialog", name="Fix 1 row?")
    expect(question.get_by_role("link", name="Cancel")).to_be_focused()
    question.get_by_role("button", name="Fix 1 row").click()
    expect(page.get_by_text("requested by Break-glass key")).to_be_visible()
    work(office)
    expect(name).to_contain_text("Fixed")
    expect(page.get_by_role("row", name=re.compile("Role differs"))).to_contain_text("Written to the database")

    page.get_by_role("link", name="Apply 1 row").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Fix 1 row").click()
    expect(page.get_by_text("requested by Break-glass key")).to_be_visible()
    work(office)
    expect(page.locator("#apply-all")).to_have_count(0)
    page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="Sync").click()
    page.get_by_role("button", name="Check status").click()
    expect(page.get_by_text("waiting for a worker")).to_be_visible()
    work(office)
    expect(page.get_by_text("Clerk and the database are in sync.")).to_be_visible()


def test_a_parked_delivery_is_read_and_replayed(office: Office, page: Page) -> None:
    office.run(move_in(office))
    parked = park_one(office)
    office.enter(page).goto(f"{office.origin}/deliveries?state=parked")
    badge = page.locator("#badge-parked .side-badge")
    expect(badge).to_contain_text("1")
    row = page.get_by_role("row", name=parked)
    expect(row).to_contain_text("It can't be read.")
    row.get_by_role("link", name="user.created").click()
    drawer = page.get_by_role("dialog", name="user.created")
    expect(drawer.locator(".payload")).to_contain_text('"first_name"')
    page.keyboard.press("Escape")
    row.get_by_role("button", name="Replay").click()
    expect(row).to_have_count(0)
    expect(badge).to_have_count(0)
    office.run(office.firm.settle())
    page.get_by_role("link", name="All", exact=True).click()
    expect(page.get_by_role("row", name=parked)).to_contain_text("No change: already up to date")


def test_an_open_page_is_told_what_waits(office: Office, page: Page) -> None:
    """The badge and the notice come and go by themselves."""
    office.run(move_in(office))
    office.enter(page).goto(f"{office.origin}/keys")
    expect(page.locator("#webhook-quiet")).to_have_count(0)
    services = office.firm.services
    now = services.clock()
    office.run(services.db.write(repository.save_freshness, Freshness(now, now - 26 * HOUR, 3)))
    park_one(office)

    async def tell() -> None:
        services.pubsub.publish(["attention"])

    office.run(tell())
    expect(page.locator("#webhook-quiet")).to_contain_text("No webhook for 26 h while Clerk changed 3 people.")
    expect(page.locator("#badge-parked .side-badge")).to_contain_text("1")
    page.get_by_role("button", name="Fix now").click()
    expect(page.locator("#live")).to_contain_text("Applying the latest changes")
    work(office)
    expect(page.locator("#webhook-quiet")).to_have_count(0)


@pytest.mark.parametrize(("size", "colours"), [("desk", "dark"), ("phone", "light")])
def test_axe_finds_nothing(office: Office, new_page: NewPage, size: Size, colours: Colours) -> None:
    office.run(move_in(office))
    office.run(drift(office))
    park_one(office)
    page = office.enter(new_page(size=size, colours=colours))
    page.goto(f"{office.origin}/sync")
    page.get_by_role("button", name="Plan changes").click()
    expect(page.get_by_text("waiting for a worker")).to_be_visible()
    assert faults_by_axe(page) == []
    work(office)
    expect(page.locator("#apply-all")).to_be_visible()
    page.locator(".pick").first.check()
    assert faults_by_axe(page) == []
    page.locator("#apply-all").click()
    expect(page.get_by_role("alertdialog")).to_be_visible()
    assert faults_by_axe(page) == []
    for path in ("/sync", "/deliveries"):
        page.goto(office.origin + path)
        assert faults_by_axe(page) == []
    page.locator(".row-open").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert faults_by_axe(page) == []
