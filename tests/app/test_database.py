"""The pace from the settings: Clerk's own limits by default, and none where nobody has to wait."""

import pytest

from instep.app.config import SettingsError, make_settings
from instep.app.database import get_clerk_rate_limit, make_clerk_rate_limiter

KEY = {"CLERK_SECRET_KEY": "sk_test_x"}


@pytest.mark.parametrize(
    ("values", "most"),
    [
        ({}, None),
        (KEY, 100),
        ({"CLERK_SECRET_KEY": "sk_live_x"}, 1_000),
        ({**KEY, "CLERK_API_URL": "http://127.0.0.1:8001"}, None),
        ({**KEY, "CLERK_API_URL": "http://127.0.0.1:8001", "INSTEP_PACE": "500"}, 500),
        ({**KEY, "INSTEP_PACE": "off"}, None),
        ({**KEY, "INSTEP_PACE": "250"}, 250),
    ],
    ids=str,
)
def test_the_rate_limit_is_clerks_own_unless_set(values: dict[str, str], most: int | None) -> None:
    assert get_clerk_rate_limit(make_settings(values)) == most


@pytest.mark.parametrize("wrong", ["fast", "0", "-5", "1.5"])
def test_an_invalid_rate_limit_is_named(wrong: str) -> None:
    with pytest.raises(SettingsError, match="INSTEP_PACE"):
        make_settings({"INSTEP_PACE": wrong})


def test_without_a_limit_there_is_no_rate_limiter() -> None:
    assert make_clerk_rate_limiter(make_settings({**KEY, "INSTEP_PACE": "off"})) is None


@pytest.mark.anyio
async def test_on_sqlite_the_permits_are_in_a_file_beside_the_database(tmp_path: object) -> None:
    pacer = make_clerk_rate_limiter(
        make_settings({**KEY, "INSTEP_DATABASE_URL": f"sqlite:///{tmp_path}/instep.db?timeout=5"})
    )
    assert pacer is not None
    assert pacer.db.engine.url.database == f"{tmp_path}/instep.db-pace"
    await pacer.close()
