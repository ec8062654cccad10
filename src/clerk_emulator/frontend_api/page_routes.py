"""Routes of the hosted pages, the handshake, images and JWKS."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from clerk_emulator.frontend_api import accept_page, sign_in_page, sign_up_page
from clerk_emulator.frontend_api.browser import is_cross_site
from clerk_emulator.frontend_api.handshake import handshake
from clerk_emulator.state.instance import Instance
from clerk_emulator.wire import avatars
from clerk_emulator.wire.organization_json import ACCEPT_PATH
from clerk_emulator.wire.responses import JsonResponse
from clerk_emulator.wire.site_config import PROXY_PATH, SiteConfig

IMAGE_HEADERS = {
    "access-control-allow-origin": "*",  # Clerk's components load images by CORS
    "x-content-type-options": "nosniff",
    "cache-control": "max-age=3600",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
}
CallerRecorder = Callable[[str, str], None]
PageView = Callable[[Request, Instance, SiteConfig], Any]


def build_routes(instance: Instance, site: SiteConfig, record_caller: CallerRecorder) -> list[Route]:
    """Return the routes of the pages."""

    def as_endpoint(view: PageView) -> Callable[[Request], Awaitable[Response]]:
        async def opened(request: Request) -> Response:
            if request.method == "POST" and is_cross_site(request):
                return PlainTextResponse("This form was sent by another site.", status_code=403)
            address = request.client.host if request.client else ""
            record_caller(address, request.headers.get("user-agent", ""))
            response = view(request, instance, site)
            return response if isinstance(response, Response) else await response

        return opened

    def keys(request: Request, instance: Instance, site: SiteConfig) -> Response:
        return JsonResponse(site.keyring.jwks)

    def image(request: Request, instance: Instance, site: SiteConfig) -> Response:
        kind, content = instance.images.get(request.path_params["id"], ("", ""))
        return Response(base64.b64decode(content), 200 if kind else 404, IMAGE_HEADERS, kind or "text/plain")

    def drawn(request: Request, instance: Instance, site: SiteConfig) -> Response:
        found = avatars.render_svg(request.path_params["letters"], request.path_params["hue"])
        return Response(found or "", 200 if found else 404, IMAGE_HEADERS, "image/svg+xml" if found else "text/plain")

    return [
        Route("/images/{id}", as_endpoint(image)),
        Route(avatars.AVATAR_PATH + "/{hue:int}/{letters}.svg", as_endpoint(drawn)),
        *(Route(f"{prefix}/.well-known/jwks.json", as_endpoint(keys)) for prefix in ("", PROXY_PATH)),
        *(Route(f"{prefix}/v1/client/handshake", as_endpoint(handshake)) for prefix in ("", PROXY_PATH)),
        Route("/sign-in", as_endpoint(sign_in_page.show)),
        Route("/sign-in", as_endpoint(sign_in_page.submit), methods=["POST"]),
        Route("/sign-up", as_endpoint(sign_up_page.show)),
        Route("/sign-up", as_endpoint(sign_up_page.submit), methods=["POST"]),
        Route("/sign-out", as_endpoint(sign_in_page.sign_out), methods=["GET", "POST"]),
        Route(ACCEPT_PATH, as_endpoint(accept_page.show)),
        Route(ACCEPT_PATH, as_endpoint(accept_page.submit), methods=["POST"]),
    ]
