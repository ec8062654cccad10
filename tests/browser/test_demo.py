"""The run that matters, on the demo itself: a real instep, a real stand-in for Clerk, real browsers, real webhooks."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.test_members import faults_by_axe
from tests.support.browser import Colours, NewPage, Size

STARTS_IN = 60
OVER = [r"status of 4\d\d"]


@dataclass(frozen=True)
class Demo:
    """A running demo. `env` is what its demo.env says."""

    env: dict[str, str]
    process: subprocess.Popen[str]
    folder: Path

    @property
    def url(self) -> str:
        return self.env["INSTEP_URL"]

    def people(self) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {self.env['INSTEP_ADMIN_KEY']}"}
        found: dict[str, object] = httpx2.get(
            f"{self.url}/v1/organizations/northwind-law/people", params={"limit": 100}, headers=headers
        ).json()
        return found

    def control(self, what: str, body: dict[str, object]) -> None:
        """Send a request to the emulator's control API."""
        answer = httpx2.post(f"{self.env['CLERK_API_URL']}/_emulator/{what}", json=body)
        assert answer.is_success, answer.text

    def rename(self, email: str, first_name: str) -> None:
        """Give a person another first name in Clerk."""
        headers = {"Authorization": f"Bearer {self.env['CLERK_SECRET_KEY']}"}
        url = f"{self.env['CLERK_API_URL']}/v1/users"
        (person,) = httpx2.get(url, params={"email_address": email}, headers=headers).json()
        changed = httpx2.patch(f"{url}/{person['id']}", json={"first_name": first_name}, headers=headers)
        assert changed.is_success, changed.text

    def link_of(self, email: str) -> str:
        """The address by which an invitation is accepted, as Clerk's mail would tell it."""
        headers = {"Authorization": f"Bearer {self.env['CLERK_SECRET_KEY']}"}
        url = f"{self.env['CLERK_API_URL']}/v1/organization_invitations"
        listed = httpx2.get(url, params={"status": "pending", "limit": 100}, headers=headers).json()["data"]
        return str(next(it["url"] for it in listed if it["email_address"] == email))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(folder: Path, port: int, emulator_port: int) -> subprocess.Popen[str]:
    """`instep demo`, until it has said where to go."""
    ports = {"INSTEP_PORT": str(port), "CLERK_EMULATOR_PORT": str(emulator_port), "INSTEP_DATA_DIR": str(folder)}
    command = [str(Path(sys.executable).with_name("instep")), "demo"]
    return subprocess.Popen(
        command, env={**os.environ, **ports}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What it printed, up to the line with these words; fails with everything it printed where they never come."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError(f"ended without saying {words!r}:\n{''.join(lines)}")


@contextmanager
def running(folder: Path) -> Iterator[Demo]:
    process = start(folder, free_port(), free_port())
    read_until(process, "FRESH=1")
    env = dict(line.split("=", 1) for line in (folder / "demo.env").read_text().splitlines())
    yield Demo(env, process, folder)
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture
def minimal_demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo whose Clerk gives as little as it may. Its webhooks are late by the emulator's clock; none is lost."""
    with running(tmp_path) as demo:
        settings = {"profile": "minimal", "webhook_loss_percent": 0}
        demo.control("settings", settings)
        yield demo


def sign_in(page: Page, demo: Demo, name: str) -> Page:
    """Through Clerk's sign-in page, to the members of the only organization there is."""
    page.goto(demo.url)
    page.get_by_role("button", name=re.compile(name)).click()
    expect(page).to_have_url(f"{demo.url}/organizations/northwind-law/members")
    expect(page.locator("#live-line")).to_have_text("Live")
    return page


def test_what_the_demo_says_about_the_firm_is_true(demo: Demo) -> None:
    totals = demo.people()["totals"]
    assert isinstance(totals, dict)
    assert (totals["deactivated"], totals["admins"], totals["seats"]) == (3, 2, 30)
    assert totals["expired_invitations"] == 1


def test_an_invitation_becomes_a_member_on_the_open_page(demo: Demo, new_page: NewPage) -> None:
    """The admin invites, the invitee accepts in another browser, and the admin's page shows the member by itself."""
    admin = sign_in(new_page(), demo, "Dana Whitfield")
    expect(admin.locator("#headline")).to_have_text("24 members · 3 invited · 27 of 30 seats")
    admin.get_by_role("link", name="Invite people").click()
    admin.get_by_label("Email").fill("nina.park@northwind.example")
    admin.get_by_role("button", name="Send invitation").click()
    invited = admin.locator("#rows > tr[data-kind=invitation]", has_text="nina.park@northwind.example")
    expect(invited).to_contain_text("Invited")

    guest = new_page()
    accept(guest, demo, "nina.park@northwind.example", "Nina", "Park")

    member = admin.locator("#rows > tr[data-kind=member]", has_text="Nina Park")
    expect(member).to_contain_text("Active")
    expect(invited).to_have_count(0)
    expect(admin.locator("#headline")).to_have_text("25 members · 3 invited · 28 of 30 seats")


def test_the_main_job_is_done_where_clerk_gives_as_little_as_it_may(minimal_demo: Demo, new_page: NewPage) -> None:
    """Signing in, inviting, accepting in another browser, and the admin's open page shows the member.

    First without a single webhook, since whoever signs in is read from Clerk; then what a late webhook says follows.
    """
    admin = sign_in(new_page(), minimal_demo, "Dana Whitfield")
    minimal_demo.control("clock", {"stopped": True})  # from now on no webhook arrives
    admin.get_by_role("link", name="Invite people").click()
    admin.get_by_label("Email").fill("nina.park@northwind.example")
    admin.get_by_role("button", name="Send invitation").click()
    invited = admin.locator("#rows > tr[data-kind=invitation]", has_text="nina.park@northwind.example")
    expect(invited).to_contain_text("Invited")

    guest = new_page()
    accept(guest, minimal_demo, "nina.park@northwind.example", "Nina", "Park")
    expect(guest).to_have_url(f"{minimal_demo.url}/organizations/northwind-law/members")
    expect(guest.locator("#rows")).to_contain_text("Nina Park")

    member = admin.locator("#rows > tr[data-kind=member]", has_text="Nina Park")
    expect(member).to_contain_text("Active")
    expect(invited).to_have_count(0)
    expect(admin.locator("#headline")).to_have_text("25 members · 3 invited · 28 of 30 seats")

    minimal_demo.rename("nina.park@northwind.example", "Nora")
    minimal_demo.control("clock/advance", {"minutes": 1})
    expect(admin.locator("#rows > tr[data-kind=member]", has_text="Nora Park")).to_contain_text("Active")
    expect(member).to_have_count(0)
    expect(admin.locator("#headline")).to_have_text("25 members · 3 invited · 28 of 30 seats")


def accept(guest: Page, demo: Demo, email: str, first: str, last: str) -> None:
    """Accept an invitation as the invited person."""
    guest.goto(demo.link_of(email))
    guest.get_by_label("First name").fill(first)
    guest.get_by_label("Last name").fill(last)
    guest.get_by_role("button", name="Accept invitation").click()


def act(page: Page, row: Locator, what: str) -> None:
    """Choose a line of a row's menu."""
    row.get_by_role("button", name=re.compile("Actions for")).click()
    menu = row.locator(".menu:popover-open")
    menu.get_by_role("link", name=what, exact=True).or_(menu.get_by_role("button", name=what, exact=True)).click()


def test_the_run_that_matters(demo: Demo, new_page: NewPage) -> None:
    """An admin invites, sends again, revokes; the invitee accepts; role, deactivation and its way back take effect."""
    email = "sana.malik@northwind.example"
    admin = sign_in(new_page(), demo, "Dana Whitfield")
    invited = admin.locator("#rows > tr[data-kind=invitation]", has_text=email)
    admin.get_by_role("link", name="Invite people").click()
    admin.get_by_label("Email").fill(email)
    admin.get_by_role("button", name="Send invitation").click()
    expect(invited).to_contain_text("Sent")
    old = demo.link_of(email)

    act(admin, invited, "Resend")
    expect(admin.locator("#live")).to_contain_text(f"Invitation resent to {email}")
    expect(invited).to_have_count(1)
    dead = new_page(allow=OVER)
    dead.goto(old)
    expect(dead.get_by_role("button", name="Accept invitation")).to_have_count(0)
    invited.get_by_role("button", name=re.compile("Actions for")).click()
    expect(invited).to_contain_text("Sent just now")
    admin.keyboard.press("Escape")
    act(admin, invited, "Timeline")
    expect(admin.get_by_role("dialog")).to_contain_text("Resent")
    admin.keyboard.press("Escape")

    act(admin, invited, "Revoke")
    question = admin.get_by_role("alertdialog", name=f"Revoke the invitation of {email}?")
    expect(question.get_by_role("link", name="Cancel")).to_be_focused()
    question.get_by_role("button", name="Revoke").click()
    expect(invited).to_have_count(0)

    admin.get_by_role("link", name="Invite people").click()
    admin.get_by_label("Email").fill(email)
    admin.get_by_role("button", name="Send invitation").click()
    expect(invited).to_contain_text("Sent")
    guest = new_page(allow=OVER)
    accept(guest, demo, email, "Sana", "Malik")
    member = admin.locator("#rows > tr[data-kind=member]", has_text="Sana Malik")
    expect(member).to_contain_text("Active")
    guest.goto(f"{demo.url}/organizations/northwind-law/members")
    expect(guest.get_by_text("Only admins can make changes")).to_be_visible()

    member.get_by_label("Role of Sana Malik").select_option("Admin")
    expect(admin.locator("#live")).to_have_text("Sana Malik is now Admin")
    guest.reload()
    expect(guest.get_by_role("link", name="Invite people")).to_be_visible()
    member.get_by_label("Role of Sana Malik").select_option("Member")
    expect(admin.locator("#live")).to_have_text("Sana Malik is now Member")

    act(admin, member, "Deactivate")
    question = admin.get_by_role("alertdialog", name="Deactivate Sana Malik?")
    expect(question).to_contain_text("They lose access immediately.")
    question.get_by_role("button", name="Deactivate").click()
    expect(member).to_have_count(0)
    expect(guest.locator("#rows")).to_have_count(0)  # out without a click: their open page is led away
    guest.goto(f"{demo.url}/organizations/northwind-law/members")
    expect(guest.locator("#rows")).to_have_count(0)

    admin.get_by_role("link", name=re.compile("Show deactivated")).click()
    admin.locator("#search").fill("sana")
    expect(member).to_contain_text("Deactivated")
    act(admin, member, "Reactivate")
    admin.get_by_role("alertdialog").get_by_role("button", name="Reactivate").click()
    expect(member).to_contain_text("Active")
    back = new_page()
    back.goto(demo.url)
    back.get_by_role("button", name=re.compile("Sana Malik")).click()
    expect(back.locator("#rows > tr").first).to_be_visible()


def by_key(page: Page, demo: Demo) -> Page:
    """Signed in with the break-glass key: an admin of the whole installation."""
    page.goto(f"{demo.url}/sign-in")
    page.get_by_text("Use the break-glass key").click()
    page.get_by_label("Break-glass key").fill(demo.env["INSTEP_ADMIN_KEY"])
    page.get_by_role("button", name="Sign in with the key").click()
    expect(page.get_by_role("heading", name="Members & Roles")).to_be_visible()
    return page


@pytest.mark.parametrize(("size", "colours"), [("desk", "light"), ("phone", "dark")])
def test_axe_finds_nothing_on_any_page(demo: Demo, new_page: NewPage, size: Size, colours: Colours) -> None:
    """Every page and the dialogs over it."""
    page, home = by_key(new_page(size=size, colours=colours), demo), f"{demo.url}/organizations/northwind-law"
    opened = {
        f"{home}/members": ["#invite", "#rows > tr[data-kind=member] .row-open"],
        f"{home}/operations": [],
        f"{home}/audit": [],
        f"{demo.url}/audit": [".entry > summary"],
        f"{demo.url}/users": ["#new-user"],
        f"{demo.url}/keys": ["#new-key"],
    }
    for url, openers in opened.items():
        page.goto(url)
        assert faults_by_axe(page) == []
        for opener in openers:
            page.locator(opener).first.click()
            if "summary" not in opener:
                expect(page.get_by_role("dialog")).to_be_visible()
            assert faults_by_axe(page) == []
            page.keyboard.press("Escape")


def read_again(page: Page) -> None:
    """Wait until the open list was read once more, as it is when anything happens in the organization."""
    page.evaluate(
        """() => new Promise((resolve) => {
          document.addEventListener("list-read", resolve, { once: true });
          document.dispatchEvent(new CustomEvent("people-changed", { detail: {} }));
        })"""
    )


def test_what_clerk_does_not_do_is_taken_back_visibly(demo: Demo, new_page: NewPage) -> None:
    """A role is shown as chosen, and comes back with the reason; the database was not touched."""
    admin = sign_in(new_page(allow=[r"status of [45]\d\d"]), demo, "Dana Whitfield")
    fault = {"operation": "UpdateOrganizationMembership", "status": 500, "count": 1}
    httpx2.post(f"{demo.env['CLERK_API_URL']}/_emulator/faults", json=fault)
    role = admin.get_by_label("Role of Omar Haddad")
    role.select_option("Admin")
    expect(admin.locator(".cell-fault")).to_contain_text("Nothing was changed")
    read_again(admin)
    expect(admin.locator(".cell-fault")).to_contain_text("Nothing was changed")
    expect(role).to_have_value("org:member")
    expect(admin.locator("#toasts .request-id")).to_be_visible()
    role.select_option("Admin")
    expect(admin.locator("#live")).to_have_text("Omar Haddad is now Admin")
    expect(admin.locator(".cell-fault")).to_have_count(0)
    role.select_option("Member")
    expect(admin.locator("#live")).to_have_text("Omar Haddad is now Member")


def test_many_at_once(demo: Demo, new_page: NewPage) -> None:
    """A list is previewed, then invited; those selected are listed before and told one by one after."""
    admin = sign_in(new_page(), demo, "Dana Whitfield")
    admin.get_by_role("link", name="Invite people").click()
    admin.get_by_role("link", name="Invite many").click()
    admin.get_by_label("Addresses").fill(
        "Ada Young <ada.young@northwind.example>, nonsense\nmaya.cohen@northwind.example"
    )
    admin.get_by_role("button", name="Preview").click()
    dialog = admin.get_by_role("dialog")
    expect(dialog).to_contain_text("1 person will be invited, 2 will be skipped")
    dialog.get_by_role("button", name="Send 1 invitation").click()
    expect(admin.get_by_role("dialog", name="1 invited, 2 skipped")).to_contain_text("Is already a member.")
    with admin.expect_download() as download:
        admin.get_by_role("link", name="Download results").click()
    assert "ada.young@northwind.example,org:member,Ada Young,sent" in Path(download.value.path()).read_text()
    admin.keyboard.press("Escape")

    for name in ("Grace Okafor", "Henrik Dahl"):
        admin.locator("#rows > tr", has_text=name).focus()
        admin.keyboard.press("x")
    expect(admin.locator("#bulk")).to_contain_text("2 selected")
    admin.locator("#bulk").get_by_role("button", name="Deactivate").click()
    question = admin.get_by_role("alertdialog", name="Deactivate 2 people?")
    expect(question).to_contain_text("Henrik Dahl")
    expect(question.get_by_role("link", name="Cancel")).to_be_focused()
    question.get_by_label("Type deactivate to confirm").fill("deactivate")
    question.get_by_role("button", name="Deactivate").click()
    expect(admin.get_by_role("dialog", name="2 done")).to_contain_text("Grace Okafor")
    admin.keyboard.press("Escape")
    expect(admin.locator("#rows > tr", has_text="Henrik Dahl")).to_have_count(0)
    expect(admin.locator("#bulk")).to_be_hidden()


def test_a_plain_member_sees_the_same_rows_and_no_action(demo: Demo, new_page: NewPage) -> None:
    admin = sign_in(new_page(), demo, "Maya Cohen")
    member = sign_in(new_page(), demo, "Omar Haddad")
    emails = "rows => rows.map(row => row.querySelector('bdi').textContent)"
    rows = "#rows > tr"
    assert member.locator(rows).evaluate_all(emails) == admin.locator(rows).evaluate_all(emails)
    expect(member.get_by_text("Only admins can make changes")).to_be_visible()
    expect(member.get_by_role("link", name="Invite people")).to_have_count(0)
    expect(member.locator("#rows").get_by_role("button")).to_have_count(0)
    expect(member.locator("#rows").get_by_role("combobox")).to_have_count(0)


def test_a_second_start_finds_the_same_people_and_the_same_keys(tmp_path: Path) -> None:
    port, emulator_port = free_port(), free_port()
    seen = []
    for _ in range(2):
        process = start(tmp_path, port, emulator_port)
        read_until(process, "FRESH=1")
        env = dict(line.split("=", 1) for line in (tmp_path / "demo.env").read_text().splitlines())
        seen.append((env, Demo(env, process, tmp_path).people()))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()
    assert seen[0] == seen[1]


def test_a_taken_port_is_one_line_that_names_the_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(tmp_path, port, free_port())
        said, _ = process.communicate(timeout=STARTS_IN)
    assert process.returncode == 1
    advice = "Stop the program that uses it, or choose another: INSTEP_PORT=... make demo"
    assert said == f"instep: Port {port} is in use. {advice}\n"
