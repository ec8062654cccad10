"""Static files are cached without limit, under a URL that changes with them."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from instep.core.static_files import StaticAssets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "console.js").write_text("import './other.js'\n" * 50)
    (tmp_path / "other.js").write_text("export {}\n")
    return tmp_path


def test_a_change_of_any_file_changes_every_url(folder: Path) -> None:
    before = StaticAssets.load(folder)
    (folder / "other.js").write_text("export default 1\n")
    after = StaticAssets.load(folder)
    assert before.url("console.js") != after.url("console.js")
    assert before.url("console.js") == StaticAssets.load(folder).url("console.js") or before.version != after.version


def test_a_missing_file_fails_when_the_page_is_rendered(folder: Path) -> None:
    with pytest.raises(KeyError):
        StaticAssets.load(folder).url("missing.js")


def test_serving(folder: Path) -> None:
    static = StaticAssets.load(folder)
    with TestClient(Starlette(routes=static.routes())) as client:
        answer = client.get(static.url("console.js"))
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"].startswith("text/javascript")
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.text == (folder / "console.js").read_text()
        plain = client.get(static.url("other.js"), headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert client.get("/static/older/console.js").headers["cache-control"] == "no-cache"
        assert client.get(f"/static/{static.version}/missing.js").status_code == 404
        assert client.get(f"/static/{static.version}/..%2Fsecret").status_code == 404
