"""Console page that invites a person: access, errors in the form, and results."""

import json
import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.browser.preview import Firm, preview

HOME = "/organizations/northwind-law"
OURS = {"Origin": "http://testserver"}
PARTIAL = {**OURS, "HX-Request": "true", "HX-Request-Type": "partial"}
FORM = {"email": "ada@x.example", "role": "org:member"}


@pytest.fixture
def firm() -> Firm:
    return Firm.northwind()


@pytest.fixture
def client(firm: Firm) -> Iterator[TestClient]:
    with TestClient(preview(firm, "http://testserver"), follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.example"}, {**OURS, "Sec-Fetch-Site": "cross-site"}])
def test_a_form_of_another_site_sends_nothing(firm: Firm, client: TestClient, headers: dict[str, str]) -> None:
    assert client.post(f"{HOME}/invitations", data=FORM, headers=headers).status_code == 403
    assert len(firm.invitations) == 4


def test_a_member_cannot_invite(firm: Firm, client: TestClient) -> None:
    client.cookies.set("as", "member")
    assert client.get(f"{HOME}/invitations/new").status_code == 403
    assert client.post(f"{HOME}/invitations", data=FORM, headers=OURS).status_code == 403
    assert len(firm.invitations) == 4


def test_a_sent_invitation_is_reported_to_the_page(firm: Firm, client: TestClient) -> None:
    answer = client.post(f"{HOME}/invitations", data=FORM, headers=PARTIAL)
    events = json.loads(answer.headers["hx-trigger"])
    assert events["toast"]["title"] == "Invitation sent to ada@x.example"
    assert events["people-changed"] == {"marked": firm.invitations[-1].clerk_id}
    assert "dialog-close" in events


def test_without_scripts_it_redirects_to_the_list(firm: Firm, client: TestClient) -> None:
    answer = client.post(f"{HOME}/invitations", data=FORM, headers=OURS)
    location = answer.headers["location"]
    assert (answer.status_code, location) == (303, f"{HOME}/members?marked={firm.invitations[-1].clerk_id}")


@pytest.mark.parametrize(
    ("email", "role", "message", "field"),
    [
        ("", "org:member", "Enter an email address.", "invite-email-error"),
        ("nonsense", "org:member", "nonsense is not a valid email address.", "invite-email-error"),
        ("ada@x.example", "org:owner", "Choose a role.", "invite-role-error"),
        ("full@x.example", "org:member", "All 30 seats are in use", "invite-error"),
    ],
)
def test_an_error_is_shown_at_its_field_and_keeps_the_input(
    client: TestClient, email: str, role: str, message: str, field: str
) -> None:
    answer = client.post(f"{HOME}/invitations", data={"email": email, "role": role}, headers=PARTIAL)
    assert answer.status_code == 422
    assert message in answer.text
    assert f'id="{field}"' in answer.text
    assert f'value="{email}"' in answer.text


def test_an_existing_member_is_linked(client: TestClient) -> None:
    data = {"email": "maya.cohen@northwind.example", "role": "org:member"}
    text = client.post(f"{HOME}/invitations", data=data, headers=PARTIAL).text
    assert f'href="{HOME}/members?q=maya.cohen%40northwind.example"' in text


def test_an_unknown_outcome_refreshes_the_list(client: TestClient) -> None:
    data = {"email": "slow@x.example", "role": "org:member"}
    answer = client.post(f"{HOME}/invitations", data=data, headers=PARTIAL)
    assert answer.status_code == 503
    assert "We do not know yet" in answer.text
    assert json.loads(answer.headers["hx-trigger"]) == {"people-changed": {}}


def test_submitting_twice_sends_one_invitation(firm: Firm, client: TestClient) -> None:
    """The same form with the same values has the same key; other values, or a retry after a refusal, have another."""

    def send(**form: str) -> str:
        return client.post(f"{HOME}/invitations", data={"role": "org:member", **form}, headers=PARTIAL).text

    key = re.findall(r'name="key" value="(\w+)"', client.get(f"{HOME}/invitations/new", headers=PARTIAL).text)[0]
    assert f'value="{key}"' in send(key=key, email="slow@x.example")
    send(key=key, email="slow@x.example")
    send(key=key, email="slower@x.example")
    assert firm.keys[0] == firm.keys[1] != firm.keys[2]
    assert f'value="{key}"' not in send(key=key, email="full@x.example")
    send(email="ada@x.example")
    assert firm.keys[-1] is None
