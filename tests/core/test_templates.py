"""Pages have security headers, escape user content, and fragments trigger events in the page."""

import json
import re
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from instep.console.layout import OrganizationLink, PageLayout
from instep.core.templates import PACKAGE_DIRECTORY, PageRenderer, Toast, create_page_renderer, make_trigger_header

PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture(scope="module")
def pages() -> PageRenderer:
    return create_page_renderer(public_url="http://testserver")


@pytest.fixture
def client(pages: PageRenderer) -> Iterator[TestClient]:
    async def fail(request: Request) -> Response:
        request.state.request_id = "req_1"
        return pages.error(request, status=503, title="Down", text="<b>not now</b>", retry_url="/fail")

    async def change(request: Request) -> Response:
        return Response(str(pages.is_own_request(request)))

    routes = [Route("/fail", fail), Route("/change", change, methods=["POST"]), *pages.routes()]
    with TestClient(Starlette(routes=routes)) as client:
        yield client


def test_a_page_has_security_headers_and_its_own_nonce(client: TestClient) -> None:
    answer, other = client.get("/fail"), client.get("/fail")
    (nonce,) = set(re.findall(r'<script nonce="([^"]+)"', answer.text))
    assert f"'nonce-{nonce}'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"] != other.headers["content-security-policy"]


def test_every_script_of_a_page_comes_from_a_file(client: TestClient) -> None:
    text = client.get("/fail").text
    assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
    assert re.findall(r'\son\w+="|\sstyle="', text) == []
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', text):
        assert client.get(address).status_code == 200


def test_user_content_is_escaped(client: TestClient) -> None:
    assert "&lt;b&gt;not now&lt;/b&gt;" in client.get("/fail").text


def test_an_error_in_an_open_page_is_a_persistent_toast(client: TestClient) -> None:
    answer = client.get("/fail", headers=PARTIAL)
    assert answer.status_code == 503
    assert answer.text == ""
    assert answer.headers["hx-reswap"] == "none"
    toast = json.loads(answer.headers["hx-trigger"])["toast"]
    assert toast == {"title": "Down", "text": "<b>not now</b>", "tone": "error", "request_id": "req_1"}


def test_going_back_in_history_gets_a_whole_page(client: TestClient) -> None:
    whole = client.get("/fail", headers={"HX-Request": "true", "HX-Request-Type": "full"})
    assert "<!doctype html>" in whole.text


def test_a_change_must_come_from_our_pages(client: TestClient) -> None:
    assert client.post("/change").text == "False"
    assert client.post("/change", headers={"Origin": "http://testserver"}).text == "True"


def test_events_are_sent_in_an_ascii_header() -> None:
    header = make_trigger_header({"toast": Toast(title="Eingeladen: zoë@x.example"), "dialog-close": {}})["HX-Trigger"]
    assert header.isascii()
    assert json.loads(header)["toast"]["title"] == "Eingeladen: zoë@x.example"
    assert make_trigger_header(None) == {}


def test_the_current_organization_is_found() -> None:
    here = OrganizationLink(name="B", href="/b", is_current=True)
    assert PageLayout(person="x", places=(OrganizationLink(name="A", href="/a"), here)).place == here
    assert PageLayout(person="x").place is None


def test_every_template_compiles(pages: PageRenderer) -> None:
    names = pages.environment.list_templates()
    assert len(names) >= 10
    for name in names:
        pages.environment.get_template(name)


def test_every_template_text_can_be_translated() -> None:
    """Text between tags must go through gettext; names of things (instep, the keys of a keyboard) need not."""
    found = []
    for path in sorted(PACKAGE_DIRECTORY.glob("*/templates/**/*.html")):
        text = re.sub(r"{%-? *trans.*?endtrans *-?%}|{#.*?#}|{{.*?}}|{%.*?%}", "", path.read_text(), flags=re.S)
        found += [(path.name, said) for said in re.findall(r">\s*([^<>{}]*[A-Za-z]{2,}[^<>{}]*)<", text)]
    assert [(name, said) for name, said in found if said.strip() not in ("instep", "· instep", "Ctrl K", "Esc")] == []
