"""Every outside package, the clock and the environment have owners; the rest of the code asks these."""

import pytest

from tests.house.structure import find_trespassers, product

NOW = ["time.time", "time.time_ns", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today"]
NOW += ["datetime.date.today"]
SQL = ["kit/db.py", "kit/database_address.py", "kit/schema.py", "*/store.py", "*/tables.py", "mirror/*", "migrations/*"]

OWNERS = {
    "the network": (
        ["httpx2", "httpx", "requests", "aiohttp"],
        ["clerk/call.py", "clerk/client.py", "clerk/stand_in.py"],
    ),
    "SQL": (["sqlalchemy"], SQL),
    "migrations": (["alembic"], ["kit/db.py", "kit/schema.py", "migrations/*"]),
    "templates": (["jinja2"], ["kit/html.py"]),
    "the environment": (["os.environ", "os.getenv", "os.putenv", "pydantic_settings"], ["app/config.py"]),
    "the present time": (NOW, ["kit/clock.py"]),
    "the web framework": (["fastapi"], ["*/api.py", "app/web.py", "kit/incoming.py"]),
    "the terminal": (["typer", "rich", "click"], ["app/cli*.py"]),
    "the job engine": (["pgqueuer"], ["app/timer.py"]),
    "the web server": (["uvicorn"], ["app/*"]),
}
HARM = {
    "the network": "a call to the outside hides where no timeout, pace and retry hold it",
    "SQL": "queries spread until no table can change",
    "migrations": "the schema changes by another door than `instep migrate`",
    "templates": "a page is made without escaping and without the origin check",
    "the environment": "a setting works, and no document and no `doctor` knows it",
    "the present time": "a rule can only be tested by waiting",
    "the web framework": "a law is caught in a view, where CLI and worker cannot use it",
    "the terminal": "a library prints, or ends the process of the application that embeds it",
    "the job engine": "an obligation lives only in the engine, and is lost with it",
    "the web server": "the server's ways leak into code that must run without one",
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
