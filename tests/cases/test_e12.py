"""E12: files, headers, cookies, keys, redirects and logs keep to themselves what is nobody's business."""

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from instep.app import demo
from instep.app.config import Settings, SettingsError, make_settings
from instep.app.database import make_clerk_rate_limiter
from instep.clerk.rate_limiter import ClerkRateLimiter
from instep.core import logging
from instep.core.db import Database
from instep.core.schema_migrations import migrate_schema
from tests.support.asgi import send_raw
from tests.support.flood import LIVE, OK, ask
from tests.support.served import served
from tests.support.town import BROWSER, Town
from tests.support.world import KEY, Firm, make_firm

pytestmark = pytest.mark.anyio

GET_DOCS = b"GET /docs HTTP/1.1\r\nHost: a\r\n\r\n"
HTTPS = "https://people.example.com"


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def common_umask() -> object:
    """Files are readable by everybody unless the program says otherwise."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("common_umask")
def test_e12_the_database_and_what_lies_beside_it_are_the_owners_alone(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'data' / 'instep.db'}")
    migrate_schema(db.engine)
    with db.engine.connect():
        db.write_sync(lambda conn: conn.exec_driver_sql("CREATE TABLE x (y)"))
        files = sorted(path.name for path in (tmp_path / "data").iterdir())
        assert files == ["instep.db", "instep.db-shm", "instep.db-wal"]
        assert {mode(tmp_path / "data" / name) for name in files} == {0o600}
    assert mode(tmp_path / "data") == 0o700
    db.close()


@pytest.mark.usefixtures("common_umask")
def test_e12_a_database_of_before_is_made_the_owners_alone(tmp_path: Path) -> None:
    for name in ("instep.db", "instep.db-wal"):
        (tmp_path / name).touch(0o644)
    db = Database(f"sqlite:///{tmp_path / 'instep.db'}")
    db.write_sync(lambda conn: conn.exec_driver_sql("CREATE TABLE x (y)"))
    assert mode(tmp_path / "instep.db") == 0o600
    db.close()


@pytest.mark.usefixtures("common_umask")
def test_e12_what_a_group_was_given_on_purpose_is_left(tmp_path: Path) -> None:
    (tmp_path / "instep.db").touch(0o600)
    (tmp_path / "instep.db").chmod(0o640)
    db = Database(f"sqlite:///{tmp_path / 'instep.db'}")
    db.write_sync(lambda conn: conn.exec_driver_sql("CREATE TABLE x (y)"))
    assert mode(tmp_path / "instep.db") == 0o640
    db.close()


@pytest.mark.usefixtures("common_umask")
async def test_e12_the_file_of_the_pace_is_the_owners_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'instep.db'}"
    pacer = make_clerk_rate_limiter(
        make_settings({"INSTEP_DATABASE_URL": url, "CLERK_SECRET_KEY": "sk_test_x", "INSTEP_PACE": "50"})
    )
    assert isinstance(pacer, ClerkRateLimiter)
    await pacer.db.write(lambda conn: conn.exec_driver_sql("CREATE TABLE x (y)"))
    assert mode(tmp_path / "instep.db-pace") == 0o600
    pacer.db.close()


@pytest.mark.parametrize("path", ["/v1/users", "/v1/organizations/northwind/people", "/v1/nothing"])
@pytest.mark.parametrize("who", ["nobody", "stranger", "instance admin"])
async def test_e12_no_cache_keeps_an_answer_of_the_api(town: Town, path: str, who: str) -> None:
    headers = (await town.knock(who, "GET", path)).headers
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert "strict-transport-security" not in headers


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/openapi.json", "/docs", "/sign-in", "/no/such/page"])
async def test_e12_no_browser_guesses_at_a_type(town: Town, path: str) -> None:
    assert (await town.knock("nobody", "GET", path)).headers["x-content-type-options"] == "nosniff"


async def test_e12_a_script_may_still_be_kept(town: Town) -> None:
    path = town.firm.services.pages.static.url("console.css")
    assert "max-age" in (await town.knock("nobody", "GET", path)).headers["cache-control"]


async def test_e12_over_https_browsers_stay_there_and_cookies_belong_to_this_host(sqlite_migrated_url: str) -> None:
    firm = make_firm(sqlite_migrated_url, INSTEP_PUBLIC_URL=HTTPS)
    for path in ("/health/live", "/v1/users", "/sign-in", "/docs"):
        assert "max-age=31536000" in (await firm.api(None).get(path)).headers["strict-transport-security"]
    api = firm.api(None, **{"origin": HTTPS})
    signed_in = await api.post("/sign-in/key", data={"key": KEY})
    (cookie,) = [it for it in signed_in.headers.get_list("set-cookie") if "instep_session" in it]
    assert cookie.startswith("__Host-instep_session=")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    token = cookie.partition("=")[2].partition(";")[0]
    for name, status in (("__Host-instep_session", 200), ("instep_session", 401)):
        assert (await firm.api(None, cookie=f"{name}={token}").get("/v1/users")).status_code == status
    out = await firm.api(None, origin=HTTPS, cookie=f"__Host-instep_session={token}").post("/sign-out")
    assert any(
        it.startswith('__Host-instep_session="";') and "Secure" in it for it in out.headers.get_list("set-cookie")
    )
    assert (await firm.api(None, cookie=f"__Host-instep_session={token}").get("/v1/users")).status_code == 401
    await firm.close()


async def test_e12_over_http_the_cookie_keeps_its_name(sqlite_firm: Firm) -> None:
    answer = await sqlite_firm.api(None, **BROWSER).post("/sign-in/key", data={"key": KEY})
    assert any(it.startswith("instep_session=") for it in answer.headers.get_list("set-cookie"))


@pytest.mark.parametrize("key", ["admin", "1234567890123456789", "changeme-changeme-changeme"])
def test_e12_a_key_that_can_be_guessed_is_refused_in_one_line(key: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        make_settings({"INSTEP_ADMIN_KEY": key})
    assert str(refused.value).startswith("INSTEP_ADMIN_KEY: ")
    assert "\n" not in str(refused.value)
    assert key not in str(refused.value)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("INSTEP_", "CLERK_"))}
    command = [sys.executable, "-c", "from instep.app.cli import main; main()", "serve"]
    ended = subprocess.run(command, env=env | {"INSTEP_ADMIN_KEY": key}, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "INSTEP_ADMIN_KEY" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir()), "nothing was made"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1:8000@evil.example", ""])
@pytest.mark.parametrize(
    "path", ["/v1/users/", "/sign-in/", "/organizations/northwind/members/", "/users", "/health/live/", "/keys/"]
)
async def test_e12_no_redirect_follows_the_host_header(town: Town, host: str, path: str) -> None:
    for who in ("nobody", "instance admin"):
        headers = town.keys[who] | BROWSER | {"host": host, "x-forwarded-host": "evil.example"}
        answer = await send_raw(town.firm.app, "GET", path, headers)
        assert "evil" not in str(answer.headers)
        assert b"evil" not in answer.body


async def test_e12_no_control_character_reaches_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    try:
        logging.configure_logging(is_json=False)
        logger = structlog.get_logger("e12")
        text = "\x1b[2J\x1b]0;owned\x07 \x9b31m line\r\nforged\u202e \u2028"
        logger.warning("an event", path=text, items=[text], given={text: text}, error=ValueError(text))
        try:
            raise ValueError(text)
        except ValueError:
            logger.exception("it broke")
    finally:
        structlog.configure(**before)
    written = capsys.readouterr().err
    assert "owned" in written
    assert not set(written) & set("\x1b\x07\x9b\r\u202e\u2028")
    assert "Traceback (most recent call last):\n" in written
    assert len([line for line in written.splitlines() if "forged" in line and "an event" not in line]) <= 1


async def test_e12_who_hangs_up_leaves_no_traceback_in_the_log(sqlite_migrated_url: str, tmp_path: Path) -> None:
    with served(sqlite_migrated_url, tmp_path, INSTEP_HEADER_TIMEOUT="1", INSTEP_BODY_TIMEOUT="1") as server:
        for path in ("/v1/users", "/users", "/webhooks/clerk", "/sign-in/key"):
            for kind in ("application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
                head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {kind}\r\n"
                head += "Sec-Fetch-Site: same-origin\r\nContent-Length: 100\r\n\r\n"
                await hang_up(server.port, head.encode() + b"--x")
        for request in (
            b"nonsense\x1b[2J\r\n\r\n",
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        ):
            await ask(server.port, request)
        await hang_up(server.port, GET_DOCS)
        assert (await ask(server.port, LIVE)).startswith(OK)
        assert "Traceback" not in server.log
        assert "\x1b" not in server.log


async def hang_up(port: int, request: bytes) -> None:
    """Send what there is of a request and go away without a look at the answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_e12_the_files_of_the_demo_are_the_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Keys:
        async def keys(self) -> dict[str, str]:
            return {"secret_key": "sk_test_x", "publishable_key": "pk_test_Y2xlcmsuZXhhbXBsZSQ="}

    place = demo.DemoLocation(tmp_path / "demo", 1, 2)
    place.folder.mkdir()
    place.env_file.touch(0o644)
    place.env_file.chmod(0o644)
    assert isinstance(await demo._prepare_settings(place, Keys()), Settings)  # type: ignore[arg-type]
    assert mode(place.env_file) == 0o600
