"""The whole emulator: keys and state file."""

import stat
from pathlib import Path

import httpx2
import pytest

from clerk_emulator import Emulator
from clerk_emulator.serve.emulator import InvalidStateFileError
from clerk_emulator.state import snapshot
from clerk_emulator.state.clock import Clock
from tests.clerk_emulator.clients import Backend
from tests.clerk_emulator.control.test_seeding import FIRM

pytestmark = pytest.mark.anyio


def test_a_state_file_restores_everything(tmp_path: Path, private_key: str) -> None:
    file = tmp_path / "below" / "state.json"
    first = Emulator(state_file=file, private_key=private_key, id_seed=1)
    first.seed({**FIRM, "endpoints": [{"url": "http://127.0.0.1:9/x"}]})
    first.clock.advance(days=2)
    first.clock.stop()
    first.save()
    again = Emulator(state_file=file)
    assert snapshot.dump(again.state) == snapshot.dump(first.state)
    assert (again.secret_key, again.jwks()) == (first.secret_key, first.jwks())
    assert again.webhooks.dump() == first.webhooks.dump()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"form": 99}', "null"])
def test_an_invalid_state_file_is_rejected(tmp_path: Path, text: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(text)
    with pytest.raises(InvalidStateFileError):
        Emulator(state_file=file)


def test_live_keys_are_rejected() -> None:
    with pytest.raises(ValueError, match="accepts only test keys"):
        Emulator(secret_key="sk_live_x")
    with pytest.raises(ValueError, match="accepts only test keys"):
        Emulator(publishable_key="pk_live_x")


def test_keys_can_be_pinned() -> None:
    emulator = Emulator(secret_key="sk_test_mine", publishable_key="pk_test_bWluZSQ=")
    assert (emulator.secret_key, emulator.publishable_key) == ("sk_test_mine", "pk_test_bWluZSQ=")


async def test_a_restored_emulator_continues_as_before(tmp_path: Path, emulator: Emulator, backend: Backend) -> None:
    organization, admin = await backend.firm()
    invitation = await backend.invite(organization)
    file = tmp_path / "state.json"
    emulator._file = file
    emulator.save()
    again = Emulator(state_file=file, clock=Clock(emulator.clock.wall))
    headers = {"Authorization": f"Bearer {again.secret_key}"}
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(again), base_url="http://127.0.0.1:8001", headers=headers
    ) as http:
        restored = Backend(http)
        mine = f"/organizations/{organization['id']}/memberships/{admin['id']}"
        assert (await restored.no("DELETE", mine))[1] == "organization_minimum_permissions_needed"
        body = {"email_address": "bo@example.com", "role": "org:member"}
        path = f"/organizations/{organization['id']}/invitations"
        assert (await restored.no("POST", path, body))[1] == "organization_invitation_not_unique"
        assert (await http.get(invitation["url"])).status_code == 200


async def test_a_served_emulator_saves_its_state(tmp_path: Path, private_key: str) -> None:
    file = tmp_path / "state.json"
    async with Emulator(state_file=file, private_key=private_key) as emulator:
        emulator.seed(FIRM)
    assert len(Emulator(state_file=file).state.users) == 3


@pytest.mark.anyio
async def test_machine_and_api_key_paths_work_without_the_version(emulator: Emulator) -> None:
    headers = {"Authorization": f"Bearer {emulator.secret_key}"}
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(emulator), base_url="http://127.0.0.1:8001", headers=headers
    ) as http:
        assert (await http.get("/m2m_tokens", params={"subject": "mch_none"})).json()["total_count"] == 0
        assert (await http.get("/api_keys/ak_none")).json()["errors"][0]["code"] == "resource_not_found"
