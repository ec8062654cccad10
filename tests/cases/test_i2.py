"""Frameworks find the emulator by the variables that it prints."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from clerk_emulator.wire.site_config import SiteConfig
from tests.clerk_emulator.browser.application import Application
from tests.support.emulated import emulated
from tests.support.need import need

NODE = Path(__file__).parents[1] / "clerk_emulator" / "node"
MODULES = NODE / "node_modules"
GUIDE = Path(__file__).parents[2] / "docs" / "emulator.md"
PASSWORD = "correct horse battery"
HTML = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><main id="here"></main>
<script>window.options = {options}</script><script>{bundle}</script>"""


def options_of(framework: str, variables: dict[str, str]) -> dict[str, Any]:
    """Return the properties of <ClerkProvider> for the variables, as the guide says."""
    options = {
        "publishableKey": variables["CLERK_PUBLISHABLE_KEY"],
        "proxyUrl": variables["CLERK_PROXY_URL"],
        "telemetry": False,
    }
    if framework == "@clerk/clerk-react":
        return {**options, "clerkJSUrl": variables["CLERK_JS_URL"]}
    scripts = {"__internal_clerkJSUrl": variables["CLERK_JS_URL"], "__internal_clerkUIUrl": variables["CLERK_UI_URL"]}
    return {**options, **scripts}


def bundle_of(framework: str) -> str:
    """Return the page with everything that it imports, as a script for a browser."""
    esbuild = MODULES / "esbuild" / "bin" / "esbuild"
    if not esbuild.exists() or not (MODULES / framework).is_dir():
        need(f"{framework} and esbuild", "`make test`, or `npm ci` in tests/clerk_emulator/node")
    production = '--define:process.env.NODE_ENV="production"'
    command = ["node", str(esbuild), "page.mjs", "--bundle", "--format=iife", "--minify", production]
    done = subprocess.run(
        [*command, f"--alias:framework={framework}", "--log-level=error"], cwd=NODE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("</script", "<\\/script")


def scripts_for(framework: str, folder: Path) -> Path:
    """Return a folder with the scripts that a framework wants, as npm would have put them there."""
    if framework == "@clerk/react":
        return NODE
    place = folder / "node_modules" / "@clerk"
    place.mkdir(parents=True)
    (place / "clerk-js").symlink_to(MODULES / "clerk-js-5")
    return folder


@pytest.fixture(params=["@clerk/clerk-react", "@clerk/react"])
def application(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    """Return an application made with a framework, configured by the emulator's variables alone."""
    bundle = bundle_of(request.param)
    (key,) = set(re.findall(r"--publishable-key (pk_test_\S+?)`?$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
    with emulated(npm=scripts_for(request.param, tmp_path), publishable_key=key) as clerk:
        app = Application(clerk)
        variables = clerk.emulator.site.variables
        options = json.dumps(options_of(request.param, variables))
        app.html = HTML.replace("{options}", options).replace("{bundle}", bundle)
        yield app
        app.close()


def test_i2_a_framework_signs_people_in_by_the_printed_variables(application: Application, page: Page) -> None:
    user = {"id": "user_ada", "email_address": "ada@example.com", "first_name": "Ada", "password": PASSWORD}
    application.clerk.seed(users=[user])
    page.goto(application.origin)
    page.get_by_label("Email address").fill("ada@example.com")
    page.get_by_role("button", name="Continue", exact=True).click()
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(page.get_by_text("Signed in as Ada")).to_be_visible()
    assert page.get_by_role("img", name="you").evaluate("image => image.decode().then(() => image.naturalWidth > 0)")


def test_i2_serve_prints_the_variables_of_servers_and_frameworks() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "clerk_emulator", "serve", "--port", "0", "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        lines = [process.stdout.readline() for _ in range(11)]
        process.stdin.close()
    found = dict(re.findall(r"^  (\w+)=(\S+)$", "".join(lines), re.MULTILINE))
    url = found["CLERK_API_URL"]
    assert found["CLERK_PROXY_URL"] == found["NEXT_PUBLIC_CLERK_PROXY_URL"] == f"{url}/__clerk"
    assert found["CLERK_PUBLISHABLE_KEY"] == found["NEXT_PUBLIC_CLERK_PUBLISHABLE_KEY"]
    assert found["NEXT_PUBLIC_CLERK_JS_URL"] == f"{url}/__clerk/npm/@clerk/clerk-js@6/dist/clerk.browser.js"
    assert found["NEXT_PUBLIC_CLERK_UI_URL"] == f"{url}/__clerk/npm/@clerk/ui@1/dist/ui.browser.js"


def test_i2_the_guide_names_every_variable() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    with emulated() as clerk:
        site: SiteConfig = clerk.emulator.site
        assert [name for name in site.variables if f"`{name}`" not in guide] == []


def test_i2_the_control_api_tells_the_variables_to_others() -> None:
    with emulated() as clerk:
        assert clerk.emulator.control.keys()["variables"] == clerk.emulator.site.variables
