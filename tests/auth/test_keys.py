"""A key is shown once, kept as a hash, good for its scopes and its organization, and over when it is revoked."""

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
def notes() -> Notes:
    return Notes()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def keys(db: Database, clock: FakeClock, notes: Notes) -> ApiKeyService:
    return ApiKeyService(db=db, record_audit=notes, clock=clock)


async def make(keys: ApiKeyService, **changes: Any) -> tuple[ApiKeyRow, str]:
    wanted = {"name": "billing", "scopes": frozenset({"read"}), "organization_id": None}
    return await keys.create(BREAK_GLASS_PRINCIPAL, **(wanted | changes))  # type: ignore[arg-type]


async def test_a_key_lets_its_holder_in_as_itself(keys: ApiKeyService, notes: Notes) -> None:
    key, secret = await make(keys)
    who = await keys.find(secret)
    assert who is not None
    assert (who.id, who.kind, who.has_scope("read"), who.has_scope("write")) == (key.id, "api_key", True, False)
    assert notes == ["created billing"]


async def test_the_secret_is_kept_nowhere(keys: ApiKeyService, db: Database) -> None:
    _, secret = await make(keys)
    rows = db.read_sync(lambda conn: repr(conn.execute(sa.select(api_keys)).all()))
    assert secret.removeprefix(API_KEY_PREFIX) not in rows


async def test_a_revoked_key_is_over_and_another_stays(keys: ApiKeyService, notes: Notes) -> None:
    key, secret = await make(keys)
    _, other = await make(keys, name="other")
    await keys.revoke(BREAK_GLASS_PRINCIPAL, key.id)
    assert await keys.find(secret) is None
    assert await keys.find(other) is not None
    assert notes[-1] == "revoked billing"
    with pytest.raises(ChangeRejectedError, match="no such key"):
        await keys.revoke(BREAK_GLASS_PRINCIPAL, key.id)


async def test_a_wrong_key_is_nobody(keys: ApiKeyService) -> None:
    assert await keys.find(f"{API_KEY_PREFIX}nothing") is None


async def test_its_use_is_noted_once_a_minute(keys: ApiKeyService, clock: FakeClock) -> None:
    _, secret = await make(keys)
    first = clock.at
    for wait in (0, MINUTE - 1, 1):
        clock.advance(wait)
        await keys.find(secret)
    (row,) = await keys.list(BREAK_GLASS_PRINCIPAL)
    assert row.last_used_at == first + MINUTE


async def test_a_key_for_one_organization_sees_no_other(keys: ApiKeyService, db: Database) -> None:
    db.write_sync(put_organization, 1)
    db.write_sync(put_organization, 2)
    _, secret = await make(keys, scopes=frozenset({"read", "write"}), organization_id="orn_1")
    who = await keys.find(secret)
    assert who is not None
    assert [it.organization_id for it in db.read_sync(repository.list_accesses, who)] == ["orn_1"]
    found = db.read_sync(repository.find_access, who, "orn_1")
    assert found is not None
    assert found.can_manage
    assert db.read_sync(repository.find_access, who, "orn_2") is None


async def test_a_key_that_may_only_read_changes_nothing(keys: ApiKeyService, db: Database) -> None:
    db.write_sync(put_organization, 1)
    _, secret = await make(keys)
    who = await keys.find(secret)
    assert who is not None
    found = db.read_sync(repository.find_access, who, "orn_1")
    assert found is not None
    assert not found.can_manage


async def test_only_instance_admins_manage_keys_and_no_key_makes_another(keys: ApiKeyService) -> None:
    _, secret = await make(keys, scopes=frozenset({"read", "write"}))
    holder = await keys.find(secret)
    assert holder is not None
    for who in (PERSON, holder):
        with pytest.raises(ChangeRejectedError, match="Only instance admins"):
            await keys.create(who, name="x", scopes=frozenset({"read"}), organization_id=None)
        with pytest.raises(ChangeRejectedError, match="Only instance admins"):
            await keys.list(who)


async def test_an_unknown_scope_is_refused(keys: ApiKeyService) -> None:
    with pytest.raises(ChangeRejectedError, match="read, write"):
        await make(keys, scopes=frozenset({"everything"}))
