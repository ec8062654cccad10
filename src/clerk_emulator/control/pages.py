"""Control pages: overview, lists and form submissions."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from clerk_emulator.control import http, page_actions
from clerk_emulator.control.page_lists import LISTS, MAX_ROWS, format_time
from clerk_emulator.control.service import ControlService
from clerk_emulator.state.errors import ApiError, NotEmulatedError
from clerk_emulator.wire.html_pages import render_page


def build_page_routes(desk: ControlService) -> list[Route]:
    """Return the routes of the pages."""

    async def overview(request: Request) -> Response:
        totals = desk.totals()
        counts = {
            **totals,
            "invitations": totals["organization_invitations"],
            "requests": len(desk.journal.list()),
            "faults": len(desk.faults.list()),
        }
        kinds = [(name, counts[name], LISTS[name].title) for name in LISTS]
        return render_page(
            "overview.html",
            title="Overview",
            kinds=kinds,
            url=desk.site.url,
            publishable_key=desk.site.publishable_key,
            now=format_time(desk.instance.now),
            wide=True,
        )

    async def listing(request: Request) -> Response:
        return _render_list(desk, request.path_params["name"])

    return [
        Route("/", overview),
        Route("/_emulator/pages/{name}", listing),
        Route("/_emulator/pages/{name}/{deed}", _action_view(desk), methods=["POST"]),
    ]


def _action_view(desk: ControlService) -> Callable[[Request], Awaitable[Response]]:
    async def do(request: Request) -> Response:
        name, deed = request.path_params["name"], page_actions.ACTIONS.get(request.path_params["deed"])
        if http.is_cross_site(request):
            return PlainTextResponse("This form was sent by another site.", status_code=403)
        if deed is None or (name not in LISTS and name != "overview"):
            return render_page("message.html", status=404, title="Not found", text="There is no such page.")
        form = {key: value for key, value in (await request.form()).items() if isinstance(value, str)}
        try:
            deed(desk, form)
        except (ApiError, NotEmulatedError, ValueError, LookupError) as wrong:
            return _render_list(desk, name if name in LISTS else "users", problem=page_actions.error_message(wrong))
        return RedirectResponse("/" if name == "overview" else f"/_emulator/pages/{name}", status_code=303)

    return do


def _render_list(desk: ControlService, name: str, problem: str = "") -> Response:
    found = LISTS.get(name)
    if found is None:
        return render_page("message.html", status=404, title="Not found", text="There is no such page.")
    values: dict[str, Any] = {
        "title": found.title,
        "name": name,
        "text": f"The newest {MAX_ROWS}, at {format_time(desk.instance.now)}.",
        "columns": found.columns,
        "rows": list(found.rows(desk)),
        "form": found.form,
        "others": [(other, one.title) for other, one in LISTS.items()],
        "problem": problem,
    }
    return render_page("table.html", status=422 if problem else 200, wide=True, **values)
