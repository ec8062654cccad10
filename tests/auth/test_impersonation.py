"""Requests and operations that are allowed during impersonation."""

from typing import Any

import pytest

from instep.auth.impersonation import (
    OTHER_ACTION,
    READ_ACTION,
    ImpersonationPolicy,
    find_blocked_operation,
    find_blocked_request,
)


@pytest.mark.parametrize(
    ("policy", "method", "path", "blocked"),
    [
        ("safe", "GET", "/v1/users", None),
        ("safe", "POST", "/v1/organizations/o/invitations", None),
        ("safe", "POST", "/organizations/o/invitations/orginv_1/resend", None),
        ("safe", "DELETE", "/v1/organizations/o/members/usr_1", "member.remove"),
        ("safe", "DELETE", "/v1/organizations/o/members/usr_1/", "member.remove"),
        ("safe", "POST", "/organizations/o/invitations/many", "invitation.batch"),
        ("safe", "POST", "/v1/something/new", OTHER_ACTION),
        ("safe", "PUT", "/v1/organizations/o/invitations", OTHER_ACTION),
        ("safe", "POST", "/v1/organizations/o/invitations/x/resend/more", OTHER_ACTION),
        ("refuse", "GET", "/v1/users", READ_ACTION),
        ("refuse", "POST", "/v1/organizations/o/invitations", "invitation.send"),
        ("allow", "DELETE", "/v1/organizations/o/members/usr_1", None),
        ("allow", "POST", "/v1/something/new", None),
    ],
)
def test_only_requests_known_to_be_safe_are_allowed(
    policy: ImpersonationPolicy, method: str, path: str, blocked: str | None
) -> None:
    assert find_blocked_request(policy, method, path) == blocked


@pytest.mark.parametrize(
    ("kind", "intent", "blocked"),
    [
        ("invitation.send", {"role": "org:admin"}, None),
        ("invitation.batch", {}, "invitation.batch"),
        ("member.anything_new", {}, "member.anything_new"),
        ("profile.edit", {"profile": {"first_name": "Maya"}}, None),
        ("profile.edit", {"profile": {"first_name": "Maya", "email": "x@example.com"}}, "profile.email"),
        ("profile.edit", {"profile": {"public_metadata": {}}}, "profile.edit"),
        ("user.create", {"profile": {"email": "x@example.com"}}, None),
        ("user.create", {"profile": {"public_metadata": {"role": "admin"}}}, "user.create"),
        ("application.invite", {"public_metadata": {"role": "member"}}, None),
        ("application.invite", {"public_metadata": {"role": "admin"}}, "application.invite"),
        ("application.resend", {"public_metadata": {"role": "admin"}}, "application.resend"),
    ],
)
def test_only_operations_that_grant_no_rights_are_allowed(kind: str, intent: dict[str, Any], blocked: str) -> None:
    assert find_blocked_operation("safe", kind, intent) == blocked
    assert find_blocked_operation("allow", kind, intent) is None
    assert find_blocked_operation("refuse", kind, intent) is not None
