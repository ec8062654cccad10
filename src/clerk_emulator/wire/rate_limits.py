"""Sliding-window rate limits per instance, operation and resource."""

from collections import deque
from collections.abc import Iterator, Mapping

from clerk_emulator.state.errors import ApiError, ErrorDetail

SECOND = 1_000
HOUR = 3_600 * SECOND
INSTANCE_LIMITS = {"development": 100, "production": 1_000}
UNLIMITED_OPERATIONS = ("GetJWKS",)
OPERATION_LIMITS = {
    "CreateInvitation": (100, HOUR),
    "CreateBulkInvitations": (25, HOUR),
    "CreateOrganizationInvitation": (250, HOUR),
    "CreateOrganizationInvitationBulk": (50, HOUR),
}
RESOURCE_PARAMETERS = {  # ten in ten seconds for the resource of these path parameters; shared within a group
    "UpdateUser": ("user", "user_id"),
    "UpdateUserMetadata": ("user", "user_id"),
    "ReplaceUserMetadata": ("user", "user_id"),
    "UpdateOrganization": ("organization", "organization_id"),
    "MergeOrganizationMetadata": ("organization", "organization_id"),
    "ReplaceOrganizationMetadata": ("organization", "organization_id"),
    "UpdateOrganizationMembership": ("membership", "organization_id", "user_id"),
    "UpdateOrganizationMembershipMetadata": ("membership", "organization_id", "user_id"),
}


class RateLimitError(ApiError):
    """429: too many requests."""

    def __init__(self, seconds: int) -> None:
        super().__init__(429, ErrorDetail("too_many_requests", "too many requests", f"Try again in {seconds} seconds."))
        self.seconds = seconds


class RateLimiter:
    """Counts calls. Rejected calls don't count."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, ...], deque[int]] = {}

    def require_room(self, kind: str, now: int, operation: str, params: Mapping[str, str]) -> None:
        """Count a call, or raise a RateLimitError."""
        if kind not in INSTANCE_LIMITS or operation in UNLIMITED_OPERATIONS:
            return
        found = [
            (self._window(name, now, window_length), maximum, window_length)
            for name, maximum, window_length in _limits_for(kind, operation, params)
        ]
        delays = [window[0] + window_length - now for window, maximum, window_length in found if len(window) >= maximum]
        if delays:
            raise RateLimitError(max(1, -(-max(delays) // SECOND)))
        for window, _, _ in found:
            window.append(now)

    def clear(self) -> None:
        """Delete the counts."""
        self._calls.clear()

    def _window(self, name: tuple[str, ...], now: int, window_length: int) -> deque[int]:
        window = self._calls.setdefault(name, deque())
        while window and not now - window_length < window[0] <= now:
            window.popleft()
        return window


def _limits_for(kind: str, operation: str, params: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], int, int]]:
    yield ("instance",), INSTANCE_LIMITS[kind], 10 * SECOND
    if operation in OPERATION_LIMITS:
        maximum, window_length = OPERATION_LIMITS[operation]
        yield ("operation", operation), maximum, window_length
    if operation in RESOURCE_PARAMETERS:
        record, *names = RESOURCE_PARAMETERS[operation]
        yield (record, *(params[name] for name in names)), 10, 10 * SECOND
