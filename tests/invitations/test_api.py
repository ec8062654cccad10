"""REST API of invitations: statuses, problem codes and messages."""

import csv
import io
from typing import Any

import httpx2
import pytest

from instep.domain.models import ClerkId, ClerkInvitation, NewClerkInvitation
from tests.invitations.firms import furnish, invitations, statuses
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
PATH = "/v1/organizations/acme/invitations"
MAYA = {"email": "maya@example.com"}


@pytest.fixture
async def api(sqlite_firm: Firm) -> httpx2.AsyncClient:
    await furnish(sqlite_firm)
    return sqlite_firm.api()


async def create(api: httpx2.AsyncClient, **fields: Any) -> str:
    response = await api.post(PATH, json=MAYA | fields)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def test_a_person_is_invited_with_a_name_and_without_an_email(api: httpx2.AsyncClient, sqlite_firm: Firm) -> None:
    clerk, requests = sqlite_firm.services.clerk, list[NewClerkInvitation]()
    invite = clerk.create_invitation

    async def recording(organization: ClerkId, wanted: NewClerkInvitation) -> ClerkInvitation:
        requests.append(wanted)
        return await invite(organization, wanted)

    clerk.create_invitation = recording  # type: ignore[assignment,method-assign]
    id = await create(api, name="Maya Cohen", expires_in_days=365, notify=False)
    found = sqlite_firm.emulator.state.organization_invitations.find(id)
    assert found is not None
    assert found.private_metadata["name"] == "Maya Cohen"
    assert found.expires_at - found.created_at == 365 * 86_400_000
    assert [it.notify for it in requests] == [False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"expires_in_days": 0},
        {"expires_in_days": 366},
        {"name": "x" * 201},
        {"name": "a\nb"},
        {"email": "nobody"},
        {"x": 1},
    ],
)
async def test_invalid_values_are_refused_before_calling_clerk(
    api: httpx2.AsyncClient, sqlite_firm: Firm, wrong: dict[str, Any]
) -> None:
    response = await api.post(PATH, json=MAYA | wrong)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert statuses(sqlite_firm) == []


async def test_resending_and_revoking(api: httpx2.AsyncClient, sqlite_firm: Firm) -> None:
    id = await create(api)
    again = await api.post(f"{PATH}/{id}/resend", headers={"Idempotency-Key": "k"})
    assert again.status_code == 200
    assert again.json()["id"] != id
    assert (await api.post(f"{PATH}/{id}/resend", headers={"Idempotency-Key": "k"})).json() == again.json()
    soon = await api.post(f"{PATH}/{again.json()['id']}/resend", json={"notify": False})
    assert (soon.status_code, soon.json()["code"]) == (429, "cooldown")
    gone = await api.post(f"{PATH}/{again.json()['id']}/revoke")
    assert (gone.status_code, gone.json()["status"]) == (200, "revoked")
    over = await api.post(f"{PATH}/{again.json()['id']}/revoke")
    assert (over.status_code, over.json()["code"]) == (409, "already_revoked")
    assert over.json()["detail"].startswith("Already revoked by ")
    assert (await api.post(f"{PATH}/orginv_none/revoke")).status_code == 404
    assert statuses(sqlite_firm) == ["revoked", "revoked"]


async def test_link_and_timeline(api: httpx2.AsyncClient) -> None:
    id = await create(api)
    link = await api.get(f"{PATH}/{id}/link")
    assert "ticket=" in link.json()["url"]
    assert link.headers["cache-control"] == "no-store"
    timeline = (await api.get(f"{PATH}/{id}/timeline")).json()
    assert [it["what"] for it in timeline["events"]] == ["asked", "sent", "link_copied"]
    assert timeline["email"] == MAYA["email"]


async def test_preview_and_batch(api: httpx2.AsyncClient, sqlite_firm: Firm) -> None:
    text = "email,role,name\nmaya@example.com,admin,Maya Cohen\nada@acme.example,,\n=1+1@example.com,,"
    preview = await api.post(f"{PATH}/preview", json={"text": text})
    assert [it["verdict"] for it in preview.json()["lines"]] == ["new", "member", "new"]
    kept = await api.post(PATH, json={"text": text, "notify": False})
    assert kept.status_code == 202
    assert kept.json()["state"] == "queued"
    await sqlite_firm.services.executor.resume_due()
    batch = (await api.get(kept.headers["location"])).json()
    assert (batch["state"], batch["total"], batch["done"], batch["sent"]) == ("done", 3, 3, 2)
    assert [row["status"] for row in batch["rows"]] == ["sent", "skipped", "sent"]
    sheet = await api.get(kept.headers["location"], params={"format": "csv"})
    assert sheet.headers["content-disposition"].startswith("attachment")
    rows = list(csv.DictReader(io.StringIO(sheet.text)))
    assert [row["email"] for row in rows] == ["maya@example.com", "ada@acme.example", "'=1+1@example.com"]
    assert len(invitations(sqlite_firm)) == 2


async def test_inviting_a_json_list(api: httpx2.AsyncClient, sqlite_firm: Firm) -> None:
    many = {"invitations": [MAYA, {"email": "leo@example.com", "role": "org:admin"}], "role": "org:member"}
    kept = await api.post(PATH, json=many, headers={"Idempotency-Key": "k"})
    assert (await api.post(PATH, json=many, headers={"Idempotency-Key": "k"})).json()["id"] == kept.json()["id"]
    await sqlite_firm.services.executor.resume_due()
    assert statuses(sqlite_firm) == ["pending"] * 2


@pytest.mark.parametrize("wrong", [{"invitations": []}, {"text": ""}, {"text": "x" * 200_001}, {"invitations": [{}]}])
async def test_an_empty_list_is_refused(api: httpx2.AsyncClient, wrong: dict[str, Any]) -> None:
    assert (await api.post(PATH, json=wrong)).status_code == 422


async def test_requests_without_a_session_are_refused(api: httpx2.AsyncClient, sqlite_firm: Firm) -> None:
    id = await create(api)
    kept = (await api.post(PATH, json={"text": "leo@example.com"})).headers["location"]
    nobody = sqlite_firm.api(key=None)
    for path in (f"{PATH}/{id}/link", f"{PATH}/{id}/timeline", kept, "/v1/batches/op_none"):
        assert (await nobody.get(path)).status_code == 401
    for path in (PATH, f"{PATH}/preview", f"{PATH}/{id}/resend", f"{PATH}/{id}/revoke"):
        body = {"text": "a@x.com"} if path.endswith(("s", "preview")) else None
        assert (await nobody.post(path, json=body)).status_code == 401
    assert (await api.get("/v1/batches/op_none")).status_code == 404
    assert (await api.get("/v1/organizations/other/invitations/x/link")).status_code == 404
