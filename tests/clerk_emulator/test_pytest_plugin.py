"""The pytest plugin, and the examples in its README."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx2
import pytest

from clerk_emulator.pytest_plugin import Clerk

pytest_plugins = ("pytester",)
ROOT = Path(__file__).parents[2]
README = ROOT / "packages" / "clerk-emulator" / "README.md"
NODE = Path(__file__).with_name("node")


def example(language: str) -> str:
    """Return the longest example in the README in a language."""
    found = re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return str(max(found, key=len))


def test_the_example_of_the_readme_runs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(example("python"))
    pytester.makeconftest("pytest_plugins = ['clerk_emulator.pytest_plugin']\n")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    outcome = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-k", "asyncio or not trio")
    outcome.assert_outcomes(passed=3)


def test_reading_the_url_starts_the_server(clerk_private_key: str) -> None:
    clerk = Clerk(clerk_private_key, {"id_seed": 1})
    try:
        clerk.seed(users=[{"id": "user_ada", "email_address": "ada@example.com"}])
        url = clerk.url
        answer = httpx2.get(f"{url}/v1/users", headers=clerk.headers).json()
        assert [user["id"] for user in answer] == ["user_ada"]
        clerk.fail("GetUserList")
        assert httpx2.get(f"{url}/v1/users", headers=clerk.headers).status_code == 500
        assert httpx2.get(f"{url}/v1/users", headers=clerk.headers).status_code == 200
        before = clerk.emulator.clock.now()
        clerk.advance(days=8)
        assert clerk.emulator.clock.now() - before >= 8 * 86_400_000
        claims = [clerk.emulator.site.keyring.read(clerk.token("user_ada", origin=origin)) for origin in (None, url)]
        assert [(one or {}).get("azp") for one in claims] == [None, url]
    finally:
        clerk.close()


@pytest.fixture(scope="session")
def clerk_private_key(private_key: str) -> str:
    """The key pair of the other tests."""
    return private_key


@pytest.mark.parametrize("name", ["the example of the README", "clients.test.mjs"])
def test_clerks_node_sdk_works(clerk_private_key: str, tmp_path: Path, name: str) -> None:
    if shutil.which("node") is None or not (NODE / "node_modules" / "@clerk" / "backend").is_dir():
        missing = f"Clerk's SDK for Node is not at hand: run `npm ci` in {NODE.relative_to(ROOT)}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    own = NODE / name
    (tmp_path / "app.test.mjs").write_text(own.read_text() if own.is_file() else example("js"))
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    clerk = Clerk(clerk_private_key, {})
    keys = {
        "CLERK_API_URL": clerk.url,
        "CLERK_SECRET_KEY": clerk.secret_key,
        "CLERK_PUBLISHABLE_KEY": clerk.publishable_key,
        "CLERK_TELEMETRY_DISABLED": "1",
    }
    try:
        ran = subprocess.run(
            ["node", "--test"], cwd=tmp_path, env={**os.environ, **keys}, capture_output=True, text=True, timeout=60
        )
    finally:
        clerk.close()
    assert ran.returncode == 0, ran.stdout + ran.stderr
