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


def build_page_routes(control: ControlService) -> list[Route]:
    """Return the routes of the pages."""

    async def overview(request: Request) -> Response:
        totals = control.totals()
        counts = {
            **totals,
            "invitations": totals["organization_invitations"],
            "requests": len(control.request_log.list()),
            "faults": len(control.faults.list()),
        }
        kinds = [(name, counts[name], LISTS[name].title) for name in LISTS]
        return render_page(
            "overview.html",
            title="Overview",
            kinds=kinds,
            url=control.site.url,
            publishable_key=control.site.publishable_key,
            now=format_time(control.instance.now),
            wide=True,
        )

    async def listing(request: Request) -> Response:
        return _render_list(control, request.path_params["name"])

    return [
        Route("/", overview),
        Route("/_emulator/pages/{name}", listing),
        Route("/_emulator/pages/{name}/{action}", _action_view(control), methods=["POST"]),
    ]


def _action_view(control: ControlService) -> Callable[[Request], Awaitable[Response]]:
    async def do(request: Request) -> Response:
        name, action = request.path_params["name"], page_actions.ACTIONS.get(request.path_params["action"])
        if http.is_cross_site(request):
            return PlainTextResponse("This form was sent by another site.", status_code=403)
        if action is None or (name not in LISTS and name != "overview"):
            return render_page("message.html", status=404, title="Not found", text="There is no such page.")
        form = {key: value for key, value in (await request.form()).items() if isinstance(value, str)}
        try:
            action(control, form)
        except (ApiError, NotEmulatedError, ValueError, LookupError) as error:
            return _render_list(control, name if name in LISTS else "users", problem=page_actions.error_message(error))
        return RedirectResponse("/" if name == "overview" else f"/_emulator/pages/{name}", status_code=303)

    return do


def _render_list(control: ControlService, name: str, problem: str = "") -> Response:
    found = LISTS.get(name)
    if found is None:
        return render_page("message.html", status=404, title="Not found", text="There is no such page.")
    values: dict[str, Any] = {
        "title": found.title,
        "name": name,
        "text": f"The newest {MAX_ROWS} as of {format_time(control.instance.now)}.",
        "columns": found.columns,
        "rows": list(found.rows(control)),
        "form": found.form,
        "others": [(other, one.title) for other, one in LISTS.items()],
        "problem": problem,
    }
    return render_page("table.html", status=422 if problem else 200, wide=True, **values)
