"""Browser tests see pages of this machine, and nothing that goes wrong in a page goes unnoticed."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from tests.support.browser import Colours, NewPage, Size, is_here, watch

HELLO = "<!doctype html><title>hello</title><link rel=icon href=data:,><h1>Hello</h1>"
BROKEN = {
    "/console": "<script>console.error('it hurts')</script>",
    "/throw": "<script>throw new Error('nobody catches me')</script>",
    "/picture": "<img src='http://pictures.example/cat.png'>",
    "/socket": "<script>new WebSocket('ws://sockets.example/')</script>",
}


class Site(BaseHTTPRequestHandler):
    """Says hello; /away sends the browser out of this machine, anything in BROKEN breaks in its own way."""

    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/away" else 200)
        if self.path == "/away":
            self.send_header("Location", "http://elsewhere.example/")
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write((HELLO + BROKEN.get(self.path, "")).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests' own output is enough."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def faults_at(browser: Browser, url: str) -> list[str]:
    faults: list[str] = []
    context = browser.new_context()
    watch(context, [], faults)
    page = context.new_page()
    try:
        page.goto(url)
    except Error:
        faults.append("- the page did not open")
    context.close()
    return faults


def test_a_page_of_this_machine_opens(page: Page, site: str) -> None:
    page.goto(site)
    expect(page.get_by_role("heading", name="Hello")).to_be_visible()


def test_a_sound_page_has_no_faults(browser: Browser, site: str) -> None:
    assert faults_at(browser, site) == []


def test_an_error_in_the_console_is_a_fault(browser: Browser, site: str) -> None:
    assert faults_at(browser, f"{site}/console") == ["- console error: it hurts"]


def test_an_error_that_no_script_catches_is_a_fault(browser: Browser, site: str) -> None:
    assert any(
        "uncaught error" in fault and "nobody catches me" in fault for fault in faults_at(browser, f"{site}/throw")
    )


@pytest.mark.parametrize(
    ("path", "address"),
    [("/picture", "http://pictures.example/cat.png"), ("/away", "http://elsewhere.example/")],
)
def test_a_request_to_the_outside_fails_and_is_a_fault(browser: Browser, site: str, path: str, address: str) -> None:
    assert f"- a request to the outside: {address}" in faults_at(browser, site + path)


def test_a_web_socket_to_the_outside_is_a_fault(browser: Browser, site: str) -> None:
    faults: list[str] = []
    context = browser.new_context()
    watch(context, [], faults)
    page = context.new_page()
    with page.expect_websocket():
        page.goto(f"{site}/socket")
    context.close()
    assert "- a request to the outside: ws://sockets.example/" in faults


@pytest.mark.parametrize("address", ["http://192.0.2.1/", "http://[2001:db8::1]/", "http://outside.example/"])
def test_the_outside_cannot_be_reached_by_name_or_by_number(browser: Browser, address: str) -> None:
    page = browser.new_page()
    with pytest.raises(Error, match="ERR_NAME_NOT_RESOLVED"):
        page.goto(address)
    page.close()


def test_an_error_that_a_test_expects_is_allowed_by_its_words(new_page: NewPage, site: str) -> None:
    page = new_page(allow=["it hurts"])
    with page.expect_console_message(lambda said: said.text == "it hurts"):
        page.goto(f"{site}/console")


def test_every_page_is_a_person_of_its_own(new_page: NewPage, site: str) -> None:
    one, other = new_page(), new_page()
    one.goto(site)
    other.goto(site)
    one.evaluate("document.cookie = 'who=one'")
    assert other.evaluate("document.cookie") == ""


@pytest.mark.parametrize(("size", "width"), [("desk", 1280), ("phone", 390)])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_a_page_has_the_size_and_the_colours_asked_for(
    new_page: NewPage, size: Size, width: int, colours: Colours
) -> None:
    page = new_page(size=size, colours=colours)
    assert page.evaluate("innerWidth") == width
    assert page.evaluate(f"matchMedia('(prefers-color-scheme: {colours})').matches")


@pytest.mark.anyio
async def test_async_tests_run_beside_browser_tests_in_one_process() -> None:
    await asyncio.sleep(0)
    assert asyncio.get_running_loop().is_running()


@pytest.fixture
async def async_answer() -> int:
    await asyncio.sleep(0)
    return 42


@pytest.mark.usefixtures("anyio_backend")
def test_a_browser_test_may_take_an_async_fixture_before_the_page(async_answer: int, page: Page) -> None:
    assert page.evaluate("answer => answer", async_answer) == 42


def test_a_loop_can_be_run_by_hand_between_browser_tests() -> None:
    assert asyncio.run(asyncio.sleep(0, "done")) == "done"


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:8000/", True),
        ("http://clerk.localhost/", True),
        ("http://127.0.0.1/", True),
        ("http://[::1]:8000/", True),
        ("data:,", True),
        ("about:blank", True),
        ("http://127.0.0.1.evil.example/", False),
        ("https://localhost.example/", False),
        ("http://10.0.0.1/", False),
    ],
)
def test_only_loopback_is_here(url: str, here: bool) -> None:
    assert is_here(url) is here
