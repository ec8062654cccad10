"""Render HTML pages from templates, without scripts."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.responses import HTMLResponse

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action *; "
    "frame-ancestors 'none'; base-uri 'none'"
)


@cache
def _environment() -> Environment:
    loader = PackageLoader("clerk_emulator.wire", "templates")
    return Environment(loader=loader, autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True)


def render_page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page."""
    html = _environment().get_template(template).render(**values)
    headers = {
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
    }
    return HTMLResponse(html, status_code=status, headers=headers)
