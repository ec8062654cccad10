import os, sys
import pytest
from tests.clerk_emulator.browser.application import Application


@pytest.mark.parametrize(
    "component",
    [
        "UserButton",
        "OrganizationSwitcher",
        "OrganizationProfile",
        "UserProfile",
        "CreateOrganization",
        "OrganizationList",
    ],
)
def test_x(app, new_page, component):
    app.clerk.seed(
        users=[
            {
                "id": "user_ada",
                "email_address": "ada@example.com",
                "first_name": "Ada",
                "last_name": "North",
                "password": "a good one",
            },
            {"id": "user_bo", "email_address": "bo@example.com", "first_name": "Bo"},
        ],
        organizations=[
            {
                "id": "org_firm",
                "name": "Northwind Law",
                "created_by": "user_ada",
                "members": [{"user": "user_bo", "role": "org:member"}],
                "invitations": [{"email_address": "cy@example.com"}],
            },
            {"id": "org_two", "name": "Second", "created_by": "user_ada"},
        ],
    )
    page = new_page(allow=(".*",))
    urls = []
    page.on(
        "response",
        lambda r: (
            urls.append(
                (r.status, r.request.method, r.url.split("?")[0][-90:] + (" _method" if "_method" in r.url else ""))
            )
            if "/v1/" in r.url
            else None
        ),
    )
    page.on("console", lambda m: print("CONSOLE", m.type, m.text))
    app.sign_in(page, "user_ada")
    app.show(page, component)
    page.wait_for_timeout(1500)
    if component in ("UserButton", "OrganizationSwitcher"):
        page.get_by_role("button").first.click()
        page.wait_for_timeout(800)
    page.screenshot(path=f"/tmp/ui_{component}.png")
    print(page.locator("body").aria_snapshot())
    for u in urls:
        print(u)
