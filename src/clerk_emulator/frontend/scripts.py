"""Clerk's scripts for browsers, from the folder where npm put them, at the paths that Clerk's own host has."""

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

from clerk_emulator.wire.site import SCRIPTS

PACKAGES = tuple(SCRIPTS)
PATH = "/npm/@clerk/{wanted}/dist/{file:path}"
FOR_EVERYONE = {"access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin"}
FOR_GOOD = "public, max-age=31536000, immutable"  # an address with a whole version never means another file
ASK_AGAIN = "public, no-cache"
HOW = "Run `npm install @clerk/clerk-js@6 @clerk/ui@1`, and start the emulator with `--npm` and that folder."

View = Callable[[Request], Coroutine[Any, Any, Response]]


def routes(folder: str | os.PathLike[str] | None, prefix: str) -> list[Route]:
    """Return the routes of the scripts, with and without the prefix of a proxy; `folder` may hold `node_modules`."""
    view = _view(Path(folder) if folder is not None else None)
    return [Route(path, view) for path in (PATH, prefix + PATH)]


def versions(folder: str | os.PathLike[str] | None) -> dict[str, str]:
    """Return the major versions of the scripts in a folder by package, or of those that it should have."""
    found = {name: _find(Path(folder), name) if folder is not None else None for name in PACKAGES}
    majors = {name: _version(package).partition(".")[0] for name, package in found.items() if package is not None}
    return majors if "clerk-js" in majors else dict(SCRIPTS)


def _version(package: Path) -> str:
    return str(json.loads((package / "package.json").read_text(encoding="utf-8"))["version"])


def _view(folder: Path | None) -> View:
    async def script(request: Request) -> Response:
        name, _, wanted = request.path_params["wanted"].partition("@")
        package = _find(folder, name) if folder is not None and name in PACKAGES else None
        if package is None:
            return _missing(f"The emulator does not have @clerk/{name}. {HOW}")
        version = _version(package)
        if not _fits(version, wanted):
            return _missing(f"The emulator has @clerk/{name} {version}, and {wanted} is asked for. {HOW}")
        try:
            response = await StaticFiles(directory=package / "dist").get_response(
                request.path_params["file"], request.scope
            )
        except HTTPException:
            return _missing(f"@clerk/{name} {version} has no file dist/{request.path_params['file']}.")
        response.headers.update(FOR_EVERYONE)
        response.headers["cache-control"] = FOR_GOOD if wanted == version else ASK_AGAIN
        return response

    return script


def _find(folder: Path, name: str) -> Path | None:
    places = (folder / "node_modules" / "@clerk" / name, folder / "@clerk" / name)
    return next((place for place in places if (place / "package.json").is_file()), None)


def _fits(version: str, wanted: str) -> bool:
    return wanted in ("", "latest", version) or version.startswith(f"{wanted}.")


def _missing(words: str) -> Response:
    return PlainTextResponse(words, status_code=404, headers=FOR_EVERYONE | {"cache-control": "no-store"})
