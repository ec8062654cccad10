"""The routes for browsers."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from clerk_emulator.frontend import accept, sign_in, sign_up
from clerk_emulator.frontend.browser import comes_from_elsewhere
from clerk_emulator.frontend.handshake import handshake
from clerk_emulator.state.instance import Instance
from clerk_emulator.wire import initials
from clerk_emulator.wire.answers import Json
from clerk_emulator.wire.organizations import ACCEPT_PATH
from clerk_emulator.wire.site import PROXY, Site

PICTURE = {
    "access-control-allow-origin": "*",  # Clerk's components ask for pictures by CORS
    "x-content-type-options": "nosniff",
    "cache-control": "max-age=3600",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
}

NoteCaller = Callable[[str, str], None]
View = Callable[[Request, Instance, Site], Any]


def routes(instance: Instance, site: Site, note_caller: NoteCaller) -> list[Route]:
    """Return the routes for browsers."""

    def door(view: View) -> Callable[[Request], Awaitable[Response]]:
        async def opened(request: Request) -> Response:
            if request.method == "POST" and comes_from_elsewhere(request):
                return PlainTextResponse("This form was sent by another site.", status_code=403)
            address = request.client.host if request.client else ""
            note_caller(address, request.headers.get("user-agent", ""))
            response = view(request, instance, site)
            return response if isinstance(response, Response) else await response

        return opened

    def keys(request: Request, instance: Instance, site: Site) -> Response:
        return Json(site.keyring.jwks)

    def image(request: Request, instance: Instance, site: Site) -> Response:
        kind, content = instance.images.get(request.path_params["id"], ("", ""))
        return Response(base64.b64decode(content), 200 if kind else 404, PICTURE, kind or "text/plain")

    def drawn(request: Request, instance: Instance, site: Site) -> Response:
        found = initials.svg(request.path_params["letters"], request.path_params["hue"])
        return Response(found or "", 200 if found else 404, PICTURE, "image/svg+xml" if found else "text/plain")

    return [
        Route("/images/{id}", door(image)),
        Route(initials.PATH + "/{hue:int}/{letters}.svg", door(drawn)),
        *(Route(f"{prefix}/.well-known/jwks.json", door(keys)) for prefix in ("", PROXY)),
        *(Route(f"{prefix}/v1/client/handshake", door(handshake)) for prefix in ("", PROXY)),
        Route("/sign-in", door(sign_in.show)),
        Route("/sign-in", door(sign_in.submit), methods=["POST"]),
        Route("/sign-up", door(sign_up.show)),
        Route("/sign-up", door(sign_up.submit), methods=["POST"]),
        Route("/sign-out", door(sign_in.sign_out), methods=["GET", "POST"]),
        Route(ACCEPT_PATH, door(accept.show)),
        Route(ACCEPT_PATH, door(accept.submit), methods=["POST"]),
    ]
