"""Promises of the page of members: how it looks to axe, to a keyboard, to a reader, while things happen and fail."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import Site
from tests.support.browser import Colours, NewPage, Size

REFUSED = [r"status of 422"]
DOWN = [r"status of 503"]


def row(page: Page, name: str) -> Locator:
    """The row of someone."""
    return page.get_by_role("row", name=name, exact=True)


def open_at(page: Page, site: Site, query: str = "") -> Page:
    """Opens the page and waits until it hears of changes."""
    page.goto(site.url + query)
    expect(page.locator("#live-line")).to_have_text("Live")
    return page


def faults_by_axe(page: Page) -> list[str]:
    """What axe finds, one line each."""
    ending = "document.getAnimations().filter(it => it.effect.getTiming().iterations !== Infinity)"
    page.evaluate(f"Promise.allSettled({ending}.map(it => it.finished))")
    found = Axe().run(page).response["violations"]
    return [f"{it['id']}: {node['html'][:160]}" for it in found for node in it["nodes"]]


@pytest.mark.parametrize("size", ["desk", "phone"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing(site: Site, new_page: NewPage, size: Size, colours: Colours) -> None:
    """At a desk and on a phone, light and dark: the list, its menus, the dialog with an error, nobody found."""
    page = open_at(new_page(size=size, colours=colours, allow=REFUSED), site, "?deactivated=1")
    assert faults_by_axe(page) == []
    page.get_by_role("button", name="Actions for Maya Cohen").click()
    assert faults_by_axe(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Invite people").click()
    page.get_by_label("Email").fill("maya.cohen@northwind.example")
    page.get_by_role("button", name="Send invitation").click()
    expect(page.get_by_text("is already a member")).to_be_visible()
    assert faults_by_axe(page) == []
    page.goto(f"{site.url}?q=nobody")
    assert faults_by_axe(page) == []
    page.goto(f"{site.origin}/alone/sign-in")
    assert faults_by_axe(page) == []


def test_both_kinds_are_listed_and_never_mixed_up(site: Site, page: Page) -> None:
    """Invitations on top, newest first; members by name below; the deactivated only when asked for."""
    open_at(page, site)
    expect(page.locator("#headline")).to_have_text("24 members · 3 invited · 27 of 30 seats")
    kinds = page.locator("#rows > tr").evaluate_all("rows => rows.map(row => row.dataset.kind)")
    assert kinds == ["invitation"] * 4 + ["member"] * 21
    expect(row(page, "ruth.bergman@northwind.example")).to_contain_text("Expires soon")
    expect(row(page, "pavel.horak@northwind.example")).to_contain_text("Invite expired")
    expect(row(page, "Noah Fischer")).to_have_count(0)
    page.get_by_role("link", name="Show deactivated (3)").click()
    page.get_by_role("link", name="Load more").click()
    expect(row(page, "Noah Fischer")).to_contain_text("Deactivated")
    expect(page.locator("#rows > tr")).to_have_count(28)


def test_search_and_chips_are_one_filter_and_live_in_the_address(site: Site, page: Page) -> None:
    """Typing narrows the list without losing the cursor; a chip adds its token; Back undoes; no match says so."""
    open_at(page, site)
    page.keyboard.press("/")
    page.keyboard.type("co")
    expect(page.locator("#found")).to_have_text("2 results")
    expect(page.locator("#search")).to_be_focused()
    page.get_by_role("button", name="Role").click()
    page.locator("#choices-role").get_by_role("link", name="Admin").click()
    expect(page.locator("#rows > tr")).to_have_count(1)
    assert page.url.endswith("?q=role%3Aadmin+co")
    expect(page.locator("#search")).to_have_value("role:admin co")
    page.go_back()
    expect(page.locator("#rows > tr")).to_have_count(2)
    page.goto(f"{site.url}?q=xy")
    expect(page.get_by_role("heading", name="No one matches 'xy'")).to_be_visible()
    page.get_by_role("link", name="Clear filters").click()
    expect(page.locator("#rows > tr")).to_have_count(25)


def test_the_keyboard_reaches_everything(site: Site, new_page: NewPage) -> None:
    """j and k walk the rows, `.` opens the row's menu, Enter acts, Escape gives the focus back, ? helps."""
    page = open_at(new_page(permissions=["clipboard-read", "clipboard-write"]), site)
    for _ in range(6):
        page.keyboard.press("j")
    expect(row(page, "Maya Cohen")).to_be_focused()
    page.keyboard.press(".")
    expect(page.get_by_role("link", name="View details")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press(".")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    expect(page.get_by_role("button", name="Copy email")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("maya.cohen@northwind.example")
    assert page.evaluate("navigator.clipboard.readText()") == "maya.cohen@northwind.example"
    page.keyboard.press("k")
    expect(row(page, "Samuel Adeyemi")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(row(page, "Samuel Adeyemi")).to_be_focused()


def test_a_message_never_lies_over_an_open_menu(site: Site, new_page: NewPage) -> None:
    """What is raised while a menu is open comes below it; the menu keeps its place and the focus."""
    page = open_at(new_page(size="phone"), site)
    page.get_by_role("button", name="Actions for Maya Cohen").focus()
    page.keyboard.press("Enter")
    copy = page.get_by_role("button", name="Copy email")
    copy.focus()
    page.evaluate("Promise.all(document.getAnimations().map(it => it.finished))")
    before = copy.bounding_box()
    for number in range(12):
        page.evaluate(
            "title => document.dispatchEvent(new CustomEvent('toast', {detail: {title}}))", f"Message {number}"
        )
    expect(page.locator("#toasts")).to_contain_text("Message 11")
    assert page.evaluate(
        """() => [...document.querySelectorAll(".menu:popover-open .menu-item")].every((item) => {
          const { left, top, width, height } = item.getBoundingClientRect();
          return item.contains(document.elementFromPoint(left + width / 2, top + height / 2));
        })"""
    )
    assert copy.bounding_box() == before
    expect(copy).to_be_focused()
    page.keyboard.press("Escape")
    expect(copy).to_be_hidden()
    expect(page.get_by_role("button", name="Actions for Maya Cohen")).to_be_focused()


def test_inviting(site: Site, new_page: NewPage) -> None:
    """`i` opens the dialog at its first field; mistakes are said beside it; Escape leaves; sending marks the row."""
    page = open_at(new_page(allow=[*REFUSED, *DOWN]), site)
    page.locator("#invite").focus()
    page.keyboard.press("i")
    email = page.get_by_label("Email")
    expect(email).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#invite")).to_be_focused()
    page.keyboard.press("i")
    email.fill("nora.albrecht@northwind.example")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("already has a pending invitation")
    expect(email).to_have_value("nora.albrecht@northwind.example")
    expect(email).to_be_focused()
    email.fill("slow@northwind.example")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("We do not know yet whether Clerk did it")
    email.fill("ada.young@northwind.example")
    page.get_by_label("Role", exact=True).select_option("Admin")
    page.get_by_role("button", name="Send invitation").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#live")).to_have_text("Invitation sent to ada.young@northwind.example")
    expect(row(page, "ada.young@northwind.example")).to_contain_text("Sent")


def test_what_happens_elsewhere_moves_the_open_page(site: Site, page: Page) -> None:
    """An accepted invitation becomes a member in place: said once, and the reader's focus and words are kept."""
    open_at(page, site)
    page.locator("#search").press_sequentially("n")
    expect(page).to_have_url(f"{site.url}?q=n")
    page.evaluate("document.querySelector('#search').setSelectionRange(0, 1)")
    site.do(lambda: site.firm.accept("nora.albrecht@northwind.example"))
    expect(row(page, "Nora Albrecht")).to_contain_text("Active")
    expect(row(page, "nora.albrecht@northwind.example")).to_have_count(0)
    expect(page.locator("#live")).to_have_text("Nora Albrecht accepted")
    expect(page.locator("#live-line")).to_have_text(re.compile(r"Nora Albrecht accepted · (just now|\d+ s ago)"))
    expect(page.locator("#search")).to_be_focused()
    assert page.evaluate("[document.activeElement.selectionStart, document.activeElement.selectionEnd]") == [0, 1]


def test_nothing_spins_while_the_list_is_read_again(site: Site, page: Page) -> None:
    """Nobody asked for anything: the list stays as it is until the answer is there."""
    open_at(page, site)
    held: list[Route] = []
    page.route(site.url, lambda route: held.append(route))
    page.evaluate("document.dispatchEvent(new CustomEvent('people-changed', { detail: {} }))")
    expect(page.locator("#people")).to_contain_class("htmx-request")
    expect(page.locator("#people .spinner:visible")).to_have_count(0)
    expect(page.locator("#rows .status > .icon:visible")).to_have_count(25)
    for route in held:
        route.continue_()
    expect(page.locator("#people")).not_to_contain_class("htmx-request")


def test_an_open_menu_and_more_rows_survive_a_change(site: Site, page: Page) -> None:
    """Reading the list again keeps what the reader had opened and loaded."""
    open_at(page, site, "?deactivated=1")
    page.get_by_role("link", name="Load more").click()
    expect(page.locator("#rows > tr")).to_have_count(28)
    page.get_by_role("button", name="Actions for Daniel Okafor").click()
    site.do(lambda: site.firm.accept("kenji.watanabe@northwind.example"))
    expect(row(page, "Kenji Watanabe")).to_be_visible()
    expect(page.locator("#rows > tr")).to_have_count(28)
    expect(page.get_by_role("button", name="Copy email")).to_be_visible()


def test_an_ordinary_member_sees_the_same_rows_and_no_action(site: Site, page: Page) -> None:
    """Read only: no buttons for changes, and the way to someone who may make them."""
    page.goto(f"{site.origin}/as/member")
    open_at(page, site)
    expect(page.locator("#rows > tr")).to_have_count(25)
    expect(page.get_by_role("link", name="Invite people")).to_have_count(0)
    expect(page.get_by_role("button", name="Actions for")).to_have_count(0)
    page.get_by_role("link", name="View admins").click()
    expect(page.locator("#rows > tr[data-kind=member]")).to_have_count(2)


def test_clerk_down_is_a_strip_and_the_database_down_a_panel(site: Site, new_page: NewPage) -> None:
    """Never an empty table; an open list stays and is called old; Retry reads again."""
    page = open_at(new_page(allow=DOWN), site)
    site.firm.is_clerk_down = True
    page.reload()
    expect(page.get_by_role("status").filter(has_text="Pending invitations could not be loaded")).to_be_visible()
    site.firm.is_clerk_down = False
    page.get_by_role("link", name="Retry").click()
    expect(page.locator("#rows > tr")).to_have_count(25)
    site.firm.is_database_down = True
    site.do(lambda: site.firm.live.publish(["org_01"]))
    expect(page.locator("#live-line")).to_have_text("Connection lost. This list may be out of date.")
    expect(page.locator("#rows > tr")).to_have_count(25)
    answer = page.reload()
    assert answer is not None
    assert answer.status == 503
    expect(page.get_by_role("heading", name="The members can't be shown")).to_be_visible()
    expect(page.get_by_role("table")).to_have_count(0)
    site.firm.is_database_down = False
    page.get_by_role("link", name="Retry").click()
    expect(page.locator("#rows > tr")).to_have_count(25)


def test_a_chosen_theme_is_there_before_the_first_paint(site: Site, page: Page) -> None:
    """The choice is kept, and is applied by a script that the page waits for."""
    open_at(page, site)
    page.get_by_role("button", name="Account of Maya Cohen").click()
    page.get_by_role("button", name="Dark").click()
    page.add_init_script(
        "addEventListener('DOMContentLoaded', () => { window.early = document.documentElement.dataset.theme })"
    )
    page.reload()
    assert page.evaluate("window.early") == "dark"
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_the_page_works_without_scripts(site: Site, new_page: NewPage) -> None:
    """Searching, inviting with a mistake and inviting well, by plain forms."""
    page = new_page(java_script_enabled=False, allow=REFUSED)
    page.goto(site.url)
    page.get_by_role("searchbox").fill("okafor")
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator("#rows > tr")).to_have_count(1)
    page.get_by_role("link", name="Invite people").click()
    page.get_by_role("button", name="Send invitation").click()
    expect(page.get_by_text("Enter an email address.")).to_be_visible()
    page.get_by_label("Email").fill("ada.young@northwind.example")
    page.get_by_role("button", name="Send invitation").click()
    expect(row(page, "ada.young@northwind.example")).to_contain_text("Sent")
