"""Pages of the list, with sample data: the answer for each kind of request and reader."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from starlette.testclient import TestClient

from tests.browser.preview import Firm, preview

PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}
LIST = "/organizations/northwind-law/members"


@pytest.fixture
def firm() -> Firm:
    return Firm.northwind()


@pytest.fixture
def client(firm: Firm) -> Iterator[TestClient]:
    with TestClient(preview(firm, "http://testserver"), follow_redirects=False) as client:
        yield client


def test_the_start_page_redirects_or_lists_organizations(firm: Firm, client: TestClient) -> None:
    """One organization: straight to its members; several: a choice; none: said."""
    assert "Fabrikam Studio" in client.get("/").text
    firm.organizations = 1
    assert client.get("/").headers["location"] == LIST
    firm.organizations = 0
    assert client.get("/").status_code == 403


def test_an_organization_of_others_is_not_found(client: TestClient) -> None:
    assert client.get("/organizations/adatum/members").status_code == 404


def test_a_page_and_its_fragments(client: TestClient) -> None:
    """Whole for a browser, the region for htmx, only more rows for a cursor."""
    whole, region = client.get(f"{LIST}?deactivated=1"), client.get(f"{LIST}?deactivated=1", headers=PARTIAL)
    assert "<!doctype html>" in whole.text
    assert "<!doctype html>" not in region.text
    assert region.text.strip() in whole.text
    more = whole.text.partition('id="more"')[2].partition('href="')[2].partition('"')[0].replace("&amp;", "&")
    rows = client.get(more, headers=PARTIAL).text
    assert (rows.count("<tr"), rows.count("<hx-partial")) == (3, 2)
    assert "Back to the first page" in client.get(more).text


def test_an_open_page_gets_as_many_rows_as_it_has(client: TestClient) -> None:
    for shown, count in [("28", 28), ("9999", 28), ("3", 25), ("-1", 25), ("x", 25), ("99999", 25)]:
        text = client.get(f"{LIST}?deactivated=1&shown={shown}", headers=PARTIAL).text
        assert text.count('<tr role="row" id=') == count


def test_an_empty_search_leaves_no_trace_in_the_address(client: TestClient) -> None:
    assert client.get(f"{LIST}?q=", headers=PARTIAL).headers["hx-replace-url"] == LIST
    assert "hx-replace-url" not in client.get(f"{LIST}?q=x", headers=PARTIAL).headers


def test_an_invalid_cursor_redirects_to_the_first_page(client: TestClient) -> None:
    answer = client.get(f"{LIST}?cursor=zz")
    assert (answer.status_code, answer.headers["location"]) == (303, LIST)


def test_without_the_database_no_empty_table_is_shown(firm: Firm, client: TestClient) -> None:
    firm.is_database_down = True
    for headers in ({}, PARTIAL):
        answer = client.get(LIST, headers=headers)
        assert answer.status_code == 503
        assert "The database could not be read" in answer.text
        assert "<table" not in answer.text


def test_names_are_never_markup(firm: Firm, client: TestClient) -> None:
    firm.invitations[0] = replace(firm.invitations[0], email='"><script>@x.example', inviter="<script>")
    assert "<script>" not in client.get(f"{LIST}?q=%22%3E%3Cscript%3E").text
