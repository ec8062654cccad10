"""Promises of the command palette: Ctrl-K from anywhere, hands on the keyboard, only what is the reader's."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Office
from tests.browser.test_members import faults_by_axe
from tests.support.browser import Colours, NewPage, Size
from tests.support.town import SEED

MANY = [{"name": f"Branch {n:02}", "slug": f"branch-{n:02}"} for n in range(20)]


async def open_house(office: Office) -> None:
    """Two firms, and twenty branches where nobody is."""
    office.firm.emulator.seed({**SEED, "organizations": [*SEED["organizations"], *MANY]})
    await office.firm.settle()


def open_at(page: Page, office: Office, path: str) -> Page:
    page.goto(f"{office.origin}{path}")
    return page


def type_in(page: Page, words: str) -> None:
    """Open the palette and look for something."""
    page.keyboard.press("Control+k")
    expect(page.locator("#palette").get_by_role("option").first).to_be_visible()
    page.keyboard.type(words)


@pytest.mark.parametrize(("size", "colours"), [("desk", "light"), ("phone", "dark")])
def test_axe_finds_nothing(office: Office, new_page: NewPage, size: Size, colours: Colours) -> None:
    """With results, with none, and the switcher with its search."""
    office.run(open_house(office))
    page = open_at(office.enter(new_page(size=size, colours=colours)), office, "/organizations/northwind/members")
    type_in(page, "dan")
    expect(page.locator("#palette").get_by_role("option", name="Dana")).to_be_visible()
    assert faults_by_axe(page) == []
    page.keyboard.type("zzz")
    expect(page.locator("#palette-none")).to_have_text("Nothing matches 'danzzz'")
    assert faults_by_axe(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Organization: Northwind Law. Switch").click()
    assert faults_by_axe(page) == []


def test_a_person_a_page_and_an_action_without_the_mouse(office: Office, new_page: NewPage) -> None:
    office.run(open_house(office))
    page = open_at(office.enter(new_page()), office, "/users")
    type_in(page, "omar")
    expect(page.get_by_role("option", name="Omar", selected=True)).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Omar")).to_be_visible()
    page.keyboard.press("Escape")

    type_in(page, "northwind")
    chosen = page.locator("#palette").get_by_role("option", selected=True)
    expect(chosen).to_contain_text("Northwind Law")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{office.origin}/organizations/northwind/members")

    page.locator("#search").focus()
    type_in(page, "invite")
    expect(chosen).to_contain_text("Invite people")
    page.keyboard.press("ArrowDown")
    expect(chosen).to_contain_text("Invite many")
    page.keyboard.press("ArrowDown")
    expect(chosen).to_contain_text("Invite people")
    field = page.get_by_role("combobox", name="Search people, organizations, pages and actions")
    expect(field).to_have_attribute("aria-activedescendant", chosen.get_attribute("id") or "")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Invite people")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.keyboard.press("Escape")
    expect(page.locator("#search")).to_be_focused()
    type_in(page, "dark")
    expect(chosen).to_contain_text("Theme: dark")
    page.keyboard.press("Enter")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_a_member_finds_the_people_and_no_admins_actions(office: Office, new_page: NewPage) -> None:
    office.run(open_house(office))
    page = open_at(office.enter_as(new_page(), "omar@example.com"), office, "/organizations/northwind/members")
    type_in(page, "dana")
    expect(page.locator("#palette").get_by_role("option", name="Dana")).to_be_visible()
    for nothing in ("rhea", "southwind", "invite", "new key"):
        page.locator("#palette input").fill(nothing)
        expect(page.locator("#palette-none")).to_have_text(f"Nothing matches '{nothing}'")


def test_the_switcher_finds_what_it_does_not_show(office: Office, new_page: NewPage) -> None:
    office.run(open_house(office))
    page = open_at(office.enter(new_page()), office, "/organizations/northwind/members")
    page.get_by_role("button", name="Organization: Northwind Law. Switch").click()
    places = page.locator("#places-found .menu-item")
    expect(places).to_have_count(13)
    expect(page.locator("#places-found")).to_contain_text("Type to search for more")
    page.locator("#places").get_by_role("searchbox").fill("branch 17")
    expect(places).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{office.origin}/organizations/branch-17/members")
    open_at(page, office, "/")
    page.get_by_role("searchbox", name="Search organizations").last.fill("SOUTH")
    expect(page.locator(".places > li")).to_have_count(1)
