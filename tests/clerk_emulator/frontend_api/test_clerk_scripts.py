"""Clerk's browser scripts at the paths of Clerk's CDN."""

import json
from pathlib import Path

import httpx2
import pytest

from clerk_emulator import Emulator

pytestmark = pytest.mark.anyio
SCRIPT = "dist/clerk.browser.js"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a version of one of the two npm packages."""
    package = tmp_path / "node_modules" / "@clerk" / "clerk-js"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"version": "6.40.0"}))
    (package / SCRIPT).write_text("window.Clerk = 1")
    return tmp_path


async def get(npm: Path | None, path: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    """Call an emulator that serves the scripts of a folder."""
    transport = httpx2.ASGITransport(Emulator(npm=npm))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001") as http:
        return await http.get(path, headers=headers or {})


@pytest.mark.parametrize("prefix", ["", "/__clerk"])
@pytest.mark.parametrize("version", ["@6", "@6.40", "@6.40.0", "@latest", ""])
async def test_a_script_is_found_by_every_way_to_name_its_version(folder: Path, prefix: str, version: str) -> None:
    answer = await get(folder, f"{prefix}/npm/@clerk/clerk-js{version}/{SCRIPT}")
    assert (answer.status_code, answer.text) == (200, "window.Clerk = 1")
    assert "javascript" in answer.headers["content-type"]
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_the_folder_may_be_node_modules_itself(folder: Path) -> None:
    assert (await get(folder / "node_modules", f"/npm/@clerk/clerk-js@6/{SCRIPT}")).status_code == 200


async def test_a_full_version_is_cached_forever_and_others_are_revalidated(folder: Path) -> None:
    whole = await get(folder, f"/npm/@clerk/clerk-js@6.40.0/{SCRIPT}")
    assert "immutable" in whole.headers["cache-control"]
    part = await get(folder, f"/npm/@clerk/clerk-js@6/{SCRIPT}")
    assert "no-cache" in part.headers["cache-control"]
    again = await get(folder, f"/npm/@clerk/clerk-js@6/{SCRIPT}", {"if-none-match": part.headers["etag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"clerk-js@5/{SCRIPT}", "clerk-js 6.40.0, but 5 is requested"),
        (f"clerk-js@6.4/{SCRIPT}", "clerk-js 6.40.0, but 6.4 is requested"),
        ("ui@1/dist/ui.browser.js", "npm install @clerk/clerk-js@6 @clerk/ui@1"),
        (f"elements@1/{SCRIPT}", "does not have @clerk/elements"),
        ("clerk-js@6/dist/chunk.js", "no file dist/chunk.js"),
        ("clerk-js@6/dist/..%2Fpackage.json", "no file dist"),
    ],
)
async def test_a_missing_script_is_explained(folder: Path, path: str, message: str) -> None:
    answer = await get(folder, f"/npm/@clerk/{path}")
    assert answer.status_code == 404
    assert message in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_without_a_folder_the_response_explains_npm() -> None:
    answer = await get(None, f"/npm/@clerk/clerk-js@6/{SCRIPT}")
    assert answer.status_code == 404
    assert "--npm" in answer.text
