"""Static assets, kept in memory and served under versioned URLs."""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

IMMUTABLE_CACHE_CONTROL = "public, max-age=31536000, immutable"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}


@dataclass(frozen=True)
class StaticAsset:
    """One file, uncompressed and compressed with gzip."""

    body: bytes
    gzipped_body: bytes
    media_type: str


@dataclass(frozen=True)
class StaticAssets:
    """The files of one folder, kept in memory.

    `version` is a digest of all files, so that modules can import each other by plain names.
    """

    assets: Mapping[str, StaticAsset]
    version: str

    @classmethod
    def load(cls, folder: Path) -> "StaticAssets":
        """Read every file of the folder."""
        bodies = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        digest = hashlib.sha256(b"".join(name.encode() + body for name, body in bodies.items()))
        return cls({name: _load_asset(name, body) for name, body in bodies.items()}, digest.hexdigest()[:12])

    def url(self, name: str) -> str:
        """Return the URL of a file. Raises KeyError for an unknown one, which would break a page."""
        if name not in self.assets:
            raise KeyError(name)
        return f"/static/{self.version}/{name}"

    def routes(self) -> list[Route]:
        """Return the route that serves the files."""
        return [Route("/static/{version}/{name}", self.serve, name="static")]

    async def serve(self, request: Request) -> Response:
        """Serve a file; under the URL of its current version, browsers may cache it without limit."""
        asset = self.assets.get(request.path_params["name"])
        if asset is None:
            return Response("Not found", status_code=404, media_type="text/plain")
        is_current = request.path_params["version"] == self.version
        headers = {
            "Cache-Control": IMMUTABLE_CACHE_CONTROL if is_current else "no-cache",
            "X-Content-Type-Options": "nosniff",
            "Vary": "Accept-Encoding",
        }
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(
                asset.gzipped_body, media_type=asset.media_type, headers={**headers, "Content-Encoding": "gzip"}
            )
        return Response(asset.body, media_type=asset.media_type, headers=headers)


def _load_asset(name: str, body: bytes) -> StaticAsset:
    media_type = MEDIA_TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return StaticAsset(body, gzip.compress(body, mtime=0), media_type)
