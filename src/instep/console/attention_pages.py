"""Attention badges and notice, kept up to date on open pages by server-sent events."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.auth.principal import OrganizationAccess, Principal
from instep.console.responses import PageResponder, stream_changes

ATTENTION_TOPIC = "attention"
FOLLOWABLE_TOPICS = ("sync", "deliveries")


@dataclass(frozen=True)
class AttentionPages:
    """Handlers of the badges and the notice. `listen` yields after each change of one of its topics."""

    console: PageResponder
    listen: Callable[..., AsyncIterator[str]]

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(f"{base}/attention{path}", handler, methods=["GET"])
            for base in ("", "/organizations/{organization_id}")
            for path, handler in (("", self.show), ("/live", self.stream))
        ]

    async def show(self, request: Request) -> Response:
        """Return the current badges and notice as partials of an open page."""
        viewer = await self._require_viewer(request)
        if isinstance(viewer, Response):
            return viewer
        layout = await self.console.load_layout(viewer, "")
        return self.console.renderer.fragment(request, "attention.html", frame=layout)

    async def stream(self, request: Request) -> Response:
        """Stream a `change` event when the badges, or the topic of the `follows` parameter, have changed."""
        viewer = await self._require_viewer(request)
        if isinstance(viewer, Response):
            return viewer
        topics, followed = [ATTENTION_TOPIC], request.query_params.get("follows", "")
        if followed in FOLLOWABLE_TOPICS and isinstance(viewer, Principal):
            topics.append(followed)
        return stream_changes(request, self.listen(*topics), self._can_read)

    async def _can_read(self, request: Request) -> bool:
        return not isinstance(await self._require_viewer(request), Response)

    async def _require_viewer(self, request: Request) -> OrganizationAccess | Principal | Response:
        if "organization_id" in request.path_params:
            return await self.console.require_admin(request)
        return await self.console.require_instance_admin(request)
