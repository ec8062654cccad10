"""A corrupt file, and a PostgreSQL that is down: 503 with Retry-After everywhere, and nobody is told where it lies."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from instep.app.doctor import run_diagnostics
from tests.support.deliveries import body
from tests.support.postgres import Postgres
from tests.support.svix import signed
from tests.support.town import BROWSER, SEED
from tests.support.world import DOOR, KEY, Firm, make_firm

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
ASKED = [
    ("GET", "/v1/organizations/northwind/people", {}, 503),
    ("GET", "/v1/users?limit=1", {}, 503),
    ("GET", "/v1/users?limit=nonsense", {}, 422),
    ("GET", "/organizations/northwind/members", BROWSER, 503),
    ("POST", "/v1/users", JSON, 503),
    ("GET", "/health/ready", {}, 503),
    ("GET", "/health/live", {}, 200),
    ("GET", "/sign-in", BROWSER, 200),
]
BODY = b'{"email": "new@example.com"}'


@pytest.fixture(params=["a corrupt file", "a file of something else", "PostgreSQL stopped"])
async def broken(request: pytest.FixtureRequest, clerk_key: str) -> AsyncIterator[Firm]:
    """A firm whose database breaks after everybody has moved in."""
    is_file = request.param != "PostgreSQL stopped"
    if is_file:
        url = request.getfixturevalue("sqlite_migrated_url")
    else:
        request.getfixturevalue("postgres")  # a loud skip where there is none
        server = Postgres()
        url = server.url("postgres")
        migrate_url(url)
    firm = make_firm(url, private_key=clerk_key)
    firm.emulator.seed(SEED)
    await firm.settle()
    if is_file:
        firm.services.db.engine.dispose()
        corrupt(Path(firm.services.db.engine.url.database or ""), header=request.param != "a corrupt file")
    else:
        server.stop()
    yield firm
    await firm.close()


def migrate_url(url: str) -> None:
    from instep.core.db import create_engine
    from instep.core.schema_migrations import migrate_schema

    engine = create_engine(url)
    migrate_schema(engine)
    engine.dispose()


def corrupt(path: Path, *, header: bool) -> None:
    """Overwrite the file where it is, as a failing disk does: all of it, or all but the first page."""
    data = bytearray(path.read_bytes())
    start = 0 if header else 4_096
    data[start:] = b"\xa5" * (len(data) - start)
    with path.open("r+b") as file:
        file.write(data)


def secrets_of(firm: Firm) -> list[str]:
    """What names the database: its folder or socket, and its name."""
    url = firm.services.db.engine.url
    return [str(found) for found in (url.database, url.host, url.query.get("host")) if found]


async def test_e7_every_route_answers_503_with_retry_after_and_names_no_internals(broken: Firm) -> None:
    for method, path, headers, status in ASKED:
        for key in (KEY, "isk_made_up"):
            client = broken.api(key, **headers)
            answer = await client.request(method, path, content=BODY if method == "POST" else None)
            if key != KEY and status == 422:
                status = 503  # whoever may not even ask learns nothing of the query
            assert (method, path, answer.status_code) == (method, path, status)
            assert status != 503 or int(answer.headers["retry-after"]) >= 1
            assert not [it for it in [*secrets_of(broken), "sqlite", "psycopg", "SELECT"] if it in answer.text]


async def test_e7_a_delivery_is_sent_again(broken: Firm) -> None:
    event = body("user.updated", {"id": "user_new", "updated_at": 2, "email_addresses": []}, instance=None)
    answer = await broken.api(None).post(DOOR, content=event, headers=signed(event, at=broken.clock()))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert not [it for it in secrets_of(broken) if it in answer.text]


async def test_e7_the_figures_go_on_without_the_database(broken: Firm) -> None:
    answer = await broken.api(None).get("/metrics")
    assert answer.status_code == 200
    assert "instep_database_up 0.0" in answer.text
    assert "instep_webhook_deliveries_pending{" not in answer.text


async def test_e7_doctor_says_what_happened(broken: Firm) -> None:
    findings = {it.what: it for it in await run_diagnostics(broken.services.settings)}
    assert not findings["Database"].is_good
    assert "(" in findings["Database"].text
