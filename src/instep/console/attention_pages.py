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
    """The handlers and what they need. `listen` yields each time that one of some topics changed."""

    console: PageResponder
    listen: Callable[..., AsyncIterator[str]]

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route(f"{base}/attention{path}", handler, methods=["GET"])
            for base in ("", "/organizations/{organization_id}")
            for path, handler in (("", self.show), ("/live", self.changes))
        ]

    async def show(self, request: Request) -> Response:
        """The badges and the notice as they are now, each in its own place."""
        asker = await self._asker(request)
        if isinstance(asker, Response):
            return asker
        frame = await self.console.frame(asker, "")
        return self.console.pages.fragment(request, "attention.html", frame=frame)

    async def changes(self, request: Request) -> Response:
        """Server-sent events: `change` when something else waits, or what `follows` names changed."""
        asker = await self._asker(request)
        if isinstance(asker, Response):
            return asker
        followed = request.query_params.get("follows", "")
        topics = (
            [ATTENTION_TOPIC, followed]
            if followed in FOLLOWABLE_TOPICS and isinstance(asker, Principal)
            else [ATTENTION_TOPIC]
        )
        return stream_changes(request, self.listen(*topics), self._can_read)

    async def _can_read(self, request: Request) -> bool:
        return not isinstance(await self._asker(request), Response)

    async def _asker(self, request: Request) -> OrganizationAccess | Principal | Response:
        if "organization_id" in request.path_params:
            return await self.console.admin(request)
        return await self.console.require_instance_admin(request)
