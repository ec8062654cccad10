"""The doctor tries everything, says what to do, and tells no secret."""

from collections.abc import Awaitable, Callable

import httpx2
import pytest

from instep.app import doctor
from instep.app.config import make_settings
from instep.app.container import _get_secret_value
from instep.app.doctor import DiagnosticResult, run_diagnostics
from instep.clerk.client import ClerkClient
from instep.core.clock import HOUR, MINUTE, now
from instep.core.db import Conn
from instep.core.schema_migrations import migrate_schema
from instep.sync import repository
from instep.sync.models import Run
from instep.webhooks import repository as webhooks_repository
from tests.support.deliveries import delivery, user_body
from tests.support.svix import SECRET
from tests.support.world import KEY, Firm

pytestmark = pytest.mark.anyio

Examine = Callable[..., Awaitable[dict[str, DiagnosticResult]]]


@pytest.fixture
async def look(sqlite_firm: Firm, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """The findings for a firm's settings, with some of them changed; Clerk is the emulator."""
    firm, good = sqlite_firm, sqlite_firm.services.settings
    firm.clock.at = now()
    firm.emulator.seed({"users": [{"email_address": "dana@example.com"}], "events": True})
    await firm.settle()
    transport = httpx2.ASGITransport(app=firm.emulator)
    url = firm.emulator.site.url
    monkeypatch.setattr(
        doctor,
        "make_clerk",
        lambda it: ClerkClient(_get_secret_value(it, "clerk_secret_key"), api_url=url, transport=transport),
    )
    values = {
        "INSTEP_DATABASE_URL": good.database_url,
        "INSTEP_ADMIN_KEY": KEY,
        "CLERK_SECRET_KEY": firm.emulator.secret_key,
        "CLERK_API_URL": firm.emulator.site.url,
        "CLERK_PUBLISHABLE_KEY": firm.emulator.publishable_key,
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
    }

    async def look(**changes: str) -> dict[str, DiagnosticResult]:
        if not list(firm.emulator.state.users.oldest_first()):
            firm.emulator.seed({"users": [{"email_address": "maya@example.com"}], "events": True})
            await firm.settle()
        found = await run_diagnostics(make_settings(values | changes))
        assert not any(secret in repr(found) for secret in (KEY, SECRET, firm.emulator.secret_key))
        return {it.what: it for it in found}

    return look


def wrong(findings: dict[str, DiagnosticResult]) -> set[str]:
    return {what for what, it in findings.items() if not it.is_good}


async def test_a_healthy_installation_passes(look: Examine) -> None:
    assert wrong(await look()) == set()


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("CLERK_SECRET_KEY", "", "not set"),
        ("CLERK_PUBLISHABLE_KEY", "", "not set"),
        ("CLERK_PUBLISHABLE_KEY", "pk_test_nonsense", "publishable key"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", "", "not set"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", "nonsense", "whsec_"),
        ("INSTEP_PUBLIC_URL", "http://people.example.com", "https"),
    ],
)
async def test_each_problem_is_one_line_with_the_fix(look: Examine, name: str, value: str, word: str) -> None:
    found = await look(**{name: value})
    assert wrong(found) == {name}
    assert word in found[name].text
    assert "\n" not in found[name].text


@pytest.mark.parametrize("fault", [{"status": 401}, {"status": 500}, {"status": 200, "body": "no JSON"}], ids=str)
async def test_a_failing_clerk_is_reported_with_its_address(
    look: Examine, sqlite_firm: Firm, fault: dict[str, object]
) -> None:
    sqlite_firm.emulator.fail("*", **fault)
    found = await look()
    assert "CLERK_SECRET_KEY" in wrong(found)
    assert sqlite_firm.emulator.site.url in found["CLERK_SECRET_KEY"].text


async def test_an_unmigrated_database_is_reported_with_the_command(look: Examine, tmp_path: object) -> None:
    found = await look(INSTEP_DATABASE_URL=f"sqlite:///{tmp_path}/empty.db")
    assert wrong(found) == {"Database"}
    assert "instep migrate" in found["Database"].text


async def test_late_and_failed_deliveries_are_reported(look: Examine, sqlite_firm: Firm) -> None:
    db = sqlite_firm.services.db
    db.write_sync(webhooks_repository.insert_deliveries, [delivery("msg_1", user_body(1), at=now() - 2 * HOUR)])
    assert "instep serve" in (await look())["Deliveries"].text
    db.write_sync(webhooks_repository.mark_failed, ["msg_1"], now=now(), reason="unreadable")
    found = await look()
    assert wrong(found) == {"Deliveries"}
    assert found["Deliveries"].text == "1 failed"


async def test_an_interrupted_sync_is_reported_with_the_command_to_resume(look: Examine, sqlite_firm: Firm) -> None:
    db, begun = sqlite_firm.services.db, now() - 2 * MINUTE
    run = Run(id="syn_1", kind="first", state="running", actor="cli", started_at=begun, changed_at=begun)
    lease = db.write_sync(repository.take_lease, "a process", now=begun)
    assert lease is not None
    db.write_sync(repository.start_run, run, lease)
    found = await look()
    assert wrong(found) == {"Sync"}
    assert found["Sync"].text == "the last run (first) was interrupted: `instep sync apply` resumes it"
    db.write_sync(repository.release_lease, lease)
    db.write_sync(repository.fail_interrupted_run, run.id, now=now(), reason="Not enough memory.", code="in_vain")
    assert (await look())["Sync"].text == "the last run (first) failed: Not enough memory."


async def test_an_organization_without_an_admin_is_reported(look: Examine, sqlite_firm: Firm) -> None:
    orphans = [
        {"name": name, "slug": name.lower(), "members": [{"user": "dana@example.com", "role": "org:member"}]}
        for name in ("Acme", "Beta")
    ]
    sqlite_firm.emulator.seed({"organizations": orphans, "events": True})
    await sqlite_firm.settle()
    found = await look()
    assert wrong(found) == {"Admins"}
    assert found["Admins"].text.startswith("2 organizations with members and no active admin: Acme, Beta; make")


async def test_a_missing_search_index_is_reported_and_created_by_migrate(look: Examine, sqlite_firm: Firm) -> None:
    db = sqlite_firm.services.db

    def drop(conn: Conn) -> None:
        for event in ("insert", "update", "delete"):
            conn.exec_driver_sql(f"DROP TRIGGER instep_memberships_search_{event}")
            conn.exec_driver_sql(f"DROP TRIGGER instep_users_search_{event}")
        conn.exec_driver_sql("DROP TABLE instep_memberships_search")
        conn.exec_driver_sql("DROP TABLE instep_users_search")

    db.write_sync(drop)
    found = await look()
    assert wrong(found) == {"Search"}
    assert "slow" in found["Search"].text
    migrate_schema(db.engine)
    assert wrong(await look()) == set()
