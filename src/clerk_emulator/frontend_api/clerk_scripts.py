"""Serve Clerk's browser scripts from an npm folder at the paths of Clerk's CDN."""

import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from clerk_emulator.wire.site_config import SCRIPT_PACKAGES

PACKAGES = tuple(SCRIPT_PACKAGES)
SCRIPT_PATH = "/npm/@clerk/{wanted}/dist/{file:path}"
CORS_HEADERS = {"access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin"}
CACHE_IMMUTABLE = "public, max-age=31536000, immutable"  # the file of a full version never changes
CACHE_REVALIDATE = "public, no-cache"
INSTALL_HINT = "Run `npm install @clerk/clerk-js@6 @clerk/ui@1`, and start the emulator with `--npm` and that folder."
ScriptView = Callable[[Request], Coroutine[Any, Any, Response]]


def build_routes(folder: str | os.PathLike[str] | None, prefix: str) -> list[Route]:
    """Return the routes of the scripts, with and without the proxy prefix; `folder` may contain `node_modules`."""
    view = _script_view(Path(folder) if folder is not None else None)
    return [Route(path, view) for path in (SCRIPT_PATH, prefix + SCRIPT_PATH)]


def find_versions(folder: str | os.PathLike[str] | None) -> dict[str, str]:
    """Return the major versions of the scripts in a folder by package; defaults for missing ones."""
    found = {name: _find_file(Path(folder), name) if folder is not None else None for name in PACKAGES}
    majors = {name: _read_version(package).partition(".")[0] for name, package in found.items() if package is not None}
    return majors if "clerk-js" in majors else dict(SCRIPT_PACKAGES)


def _read_version(package: Path) -> str:
    return str(json.loads((package / "package.json").read_text(encoding="utf-8"))["version"])


def _script_view(folder: Path | None) -> ScriptView:
    async def script(request: Request) -> Response:
        name, _, wanted = request.path_params["wanted"].partition("@")
        package = _find_file(folder, name) if folder is not None and name in PACKAGES else None
        if package is None:
            return _not_found(f"The emulator does not have @clerk/{name}. {INSTALL_HINT}")
        version = _read_version(package)
        if not _matches_version(version, wanted):
            return _not_found(f"The emulator has @clerk/{name} {version}, but {wanted} is requested. {INSTALL_HINT}")
        try:
            response = await StaticFiles(directory=package / "dist").get_response(
                request.path_params["file"], request.scope
            )
        except HTTPException:
            return _not_found(f"@clerk/{name} {version} has no file dist/{request.path_params['file']}.")
        response.headers.update(CORS_HEADERS)
        response.headers["cache-control"] = CACHE_IMMUTABLE if wanted == version else CACHE_REVALIDATE
        return response

    return script


def _find_file(folder: Path, name: str) -> Path | None:
    candidates = (folder / "node_modules" / "@clerk" / name, folder / "@clerk" / name)
    return next((candidate for candidate in candidates if (candidate / "package.json").is_file()), None)


def _matches_version(version: str, wanted: str) -> bool:
    return wanted in ("", "latest", version) or version.startswith(f"{wanted}.")


def _not_found(message: str) -> Response:
    return PlainTextResponse(message, status_code=404, headers=CORS_HEADERS | {"cache-control": "no-store"})
