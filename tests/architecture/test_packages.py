"""Every outside package, the clock and the environment have owners; the rest of the code asks these."""

import pytest

from tests.architecture.structure import find_trespassers, product

NOW = ["time.time", "time.time_ns", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"]
NOW += ["datetime.date.today"]
SQL = ["core/db.py", "core/db_errors.py", "core/db_url.py", "core/sql.py", "core/schema_migrations.py"]
SQL += [
    "*/repository.py",
    "*/tables.py",
    "app/database.py",
    "clerk/rate_limiter.py",
    "console/labels.py",
    "mirror/*",
    "migrations/*",
]

OWNERS = {
    "the network": (
        ["httpx2", "httpx", "requests", "aiohttp"],
        ["clerk/http.py", "clerk/client.py", "clerk/emulator_control.py"],
    ),
    "SQL": (["sqlalchemy"], SQL),
    "migrations": (["alembic"], ["core/db.py", "core/schema_migrations.py", "migrations/*"]),
    "templates": (["jinja2"], ["core/templates.py"]),
    "the environment": (["os.environ", "os.getenv", "os.putenv", "pydantic_settings"], ["app/config.py"]),
    "the present time": (NOW, ["core/clock.py"]),
    "the web framework": (
        ["fastapi"],
        ["*/api.py", "app/asgi.py", "auth/admin_scope.py", "core/request_limits.py", "*/schemas.py"],
    ),
    "the terminal": (["typer", "rich", "click"], ["app/cli*.py", "*/cli.py"]),
    "the web server": (["uvicorn"], ["app/*"]),
}
HARM = {
    "the network": "a call to the outside escapes timeouts, rate limits and retries",
    "SQL": "queries spread until no table can change",
    "migrations": "the schema is changed by something else than `instep migrate`",
    "templates": "a page is made without escaping and without the origin check",
    "the environment": "a setting works, and no document and no `doctor` knows it",
    "the present time": "a rule can only be tested by waiting",
    "the web framework": "a rule is caught in a view, where CLI and worker cannot use it",
    "the terminal": "a library prints, or ends the process of the application that embeds it",
    "the web server": "code that must run without a server depends on one",
}


@pytest.mark.parametrize("what", OWNERS)
def test_an_owner_alone_touches(what: str) -> None:
    """Prevents the harm named in HARM, which an import in the wrong place brings unseen."""
    things, owners = OWNERS[what]
    trespassers = find_trespassers(product("instep"), things, owners)
    assert not trespassers, "\n".join([*trespassers, f"Only {owners} may touch {what}: elsewhere, {HARM[what]}."])


def test_the_emulators_own_clock_alone_knows_the_time() -> None:
    """Prevents `/_emulator/clock` from setting half of the emulator's time."""
    trespassers = find_trespassers(product("clerk_emulator"), NOW, ["state/clock.py"])
    assert not trespassers, "\n".join([*trespassers, "Ask the emulator's clock in state/clock.py."])
