"""API keys: shown once, stored as a hash, limited to scopes and an organization, invalid when revoked."""

from typing import Any

import pytest
import sqlalchemy as sa

from instep.auth import repository
from instep.auth.api_keys import API_KEY_PREFIX, ApiKeyService
from instep.auth.principal import BREAK_GLASS_PRINCIPAL, Principal
from instep.auth.repository import ApiKeyRow
from instep.auth.tables import api_keys
from instep.core.clock import MINUTE
from instep.core.db import Conn, Database
from instep.domain.errors import ChangeRejectedError
from tests.auth.world import FakeClock, put_organization

pytestmark = pytest.mark.anyio

PERSON = Principal(kind="person", name="Maya", user_id="usr_1")


class Notes(list[str]):
    def __call__(self, _conn: Conn, _by: Principal, what: str, key: ApiKeyRow) -> None:
        self.append(f"{what} {key.name}")


@pytest.fixture
def audit() -> Notes:
    return Notes()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def keys(db: Database, clock: FakeClock, audit: Notes) -> ApiKeyService:
    return ApiKeyService(db=db, record_audit=audit, clock=clock)


async def create_key(keys: ApiKeyService, **changes: Any) -> tuple[ApiKeyRow, str]:
    wanted = {"name": "billing", "scopes": frozenset({"read"}), "organization_id": None}
    return await keys.create(BREAK_GLASS_PRINCIPAL, **(wanted | changes))


async def test_a_key_authenticates_as_itself(keys: ApiKeyService, audit: Notes) -> None:
    key, secret = await create_key(keys)
    who = await keys.find(secret)
    assert who is not None
    assert (who.id, who.kind, who.has_scope("read"), who.has_scope("write")) == (key.id, "api_key", True, False)
    assert audit == ["created billing"]


async def test_the_secret_is_not_stored(keys: ApiKeyService, db: Database) -> None:
    _, secret = await create_key(keys)
    rows = db.read_sync(lambda conn: repr(conn.execute(sa.select(api_keys)).all()))
    assert secret.removeprefix(API_KEY_PREFIX) not in rows


async def test_a_revoked_key_is_invalid_and_others_stay_valid(keys: ApiKeyService, audit: Notes) -> None:
    key, secret = await create_key(keys)
    _, other = await create_key(keys, name="other")
    await keys.revoke(BREAK_GLASS_PRINCIPAL, key.id)
    assert await keys.find(secret) is None
    assert await keys.find(other) is not None
    assert audit[-1] == "revoked billing"
    with pytest.raises(ChangeRejectedError, match="does not exist"):
        await keys.revoke(BREAK_GLASS_PRINCIPAL, key.id)


async def test_a_wrong_key_identifies_nobody(keys: ApiKeyService) -> None:
    assert await keys.find(f"{API_KEY_PREFIX}nothing") is None


async def test_its_use_is_recorded_once_a_minute(keys: ApiKeyService, clock: FakeClock) -> None:
    _, secret = await create_key(keys)
    first = clock.at
    for wait in (0, MINUTE - 1, 1):
        clock.advance(wait)
        await keys.find(secret)
    (row,) = await keys.list(BREAK_GLASS_PRINCIPAL)
    assert row.last_used_at == first + MINUTE


async def test_a_key_for_one_organization_sees_no_other(keys: ApiKeyService, db: Database) -> None:
    db.write_sync(put_organization, 1)
    db.write_sync(put_organization, 2)
    _, secret = await create_key(keys, scopes=frozenset({"read", "write"}), organization_id="orn_1")
    who = await keys.find(secret)
    assert who is not None
    assert [it.organization_id for it in db.read_sync(repository.list_accesses, who)] == ["orn_1"]
    found = db.read_sync(repository.find_access, who, "orn_1")
    assert found is not None
    assert found.can_manage
    assert db.read_sync(repository.find_access, who, "orn_2") is None


async def test_a_read_key_can_not_change_anything(keys: ApiKeyService, db: Database) -> None:
    db.write_sync(put_organization, 1)
    _, secret = await create_key(keys)
    who = await keys.find(secret)
    assert who is not None
    found = db.read_sync(repository.find_access, who, "orn_1")
    assert found is not None
    assert not found.can_manage


async def test_only_instance_admins_manage_keys_and_no_key_creates_another(keys: ApiKeyService) -> None:
    _, secret = await create_key(keys, scopes=frozenset({"read", "write"}))
    holder = await keys.find(secret)
    assert holder is not None
    for who in (PERSON, holder):
        with pytest.raises(ChangeRejectedError, match="Only instance admins"):
            await keys.create(who, name="x", scopes=frozenset({"read"}), organization_id=None)
        with pytest.raises(ChangeRejectedError, match="Only instance admins"):
            await keys.list(who)


async def test_an_unknown_scope_is_refused(keys: ApiKeyService) -> None:
    with pytest.raises(ChangeRejectedError, match="read, write"):
        await create_key(keys, scopes=frozenset({"everything"}))
