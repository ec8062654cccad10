"""The configured database, its rate limiter row, and the query for due work."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from msgspec import Struct

from instep.app.config import Settings, SettingsError
from instep.clerk.rate_limiter import ClerkRateLimiter, RateLimit
from instep.core.db import Conn, Database
from instep.domain.roles import ADMIN_ROLES_OPTION
from instep.mirror.repository import OWNED_FIELDS_OPTION
from instep.operations import repository
from instep.sync import repository as sync_repository
from instep.sync.plan import DATABASE_FIELDS_BY_DEFAULT, WRITABLE_FIELDS, FieldOwnership
from instep.webhooks import repository as webhooks_repository


def make_db(settings: Settings) -> Database:
    """Return the configured database, not opened yet.

    Raises SettingsError, in one line that names the setting, for an invalid address or a directory that can't be
    created.
    """
    try:
        return Database(settings.database_url, options=build_connection_options(settings))
    except ValueError as error:
        raise SettingsError(f"{settings.database_setting}: {error}") from None
    except OSError as error:
        raise SettingsError(f"{settings.database_setting}: can't create {error.filename}: {error.strerror}") from None


def build_connection_options(settings: Settings) -> dict[str, object]:
    """Return the options of every connection, so that no reader or writer can omit them. Raises SettingsError."""
    return {
        OWNED_FIELDS_OPTION: make_ownership_policy(settings).database,
        ADMIN_ROLES_OPTION: frozenset(settings.instep_admin_roles),
    }


def make_ownership_policy(settings: Settings) -> FieldOwnership:
    """Return the field ownership. Raises SettingsError for a field that can only be Clerk's."""
    wanted = frozenset(settings.instep_database_owns)
    if bad := sorted(wanted - DATABASE_FIELDS_BY_DEFAULT - WRITABLE_FIELDS):
        known = " ".join(sorted(DATABASE_FIELDS_BY_DEFAULT | WRITABLE_FIELDS))
        raise SettingsError(f"INSTEP_DATABASE_OWNS: {' '.join(bad)} can't belong to the database; these can: {known}")
    return FieldOwnership(wanted)


LIVE_RATE_LIMIT, TEST_RATE_LIMIT = 1_000, 100
CLERK_API_HOST = "api.clerk.com"


def _ignore(*_: Any) -> None:
    pass


def make_clerk_rate_limiter(
    settings: Settings, *, on_wait: Callable[[float], None] = _ignore, on_limited: Callable[[], None] = _ignore
) -> ClerkRateLimiter | None:
    """Create the rate limiter on the shared row; None without a limit. Raises SettingsError for an invalid address."""
    limit = get_clerk_rate_limit(settings)
    if limit is None:
        return None
    url = settings.database_url
    if url.startswith("sqlite"):  # a separate file: a permit must not wait for a long transaction of a sync
        path, mark, query = url.partition("?")
        url = f"{path}-pace{mark}{query}"
    try:
        db = Database(url, threads=1, is_durable=False)
    except (ValueError, OSError) as error:
        raise SettingsError(f"{settings.database_setting}: {error}") from None
    return ClerkRateLimiter(db, RateLimit(limit), on_wait=on_wait, on_limited=on_limited)


def get_clerk_rate_limit(settings: Settings) -> int | None:
    """Return the number of calls allowed in 10 seconds; None: unlimited."""
    key = settings.clerk_secret_key
    if settings.instep_pace == "off" or key is None:
        return None
    if settings.instep_pace != "auto":
        return settings.instep_pace
    if urlsplit(settings.clerk_api_url).hostname != CLERK_API_HOST:
        return None
    return LIVE_RATE_LIMIT if key.get_secret_value().startswith("sk_live_") else TEST_RATE_LIMIT


class DueTimes(Struct, frozen=True):
    """Times at which the next delivery, operation and sync run are due (Unix milliseconds); None where none waits."""

    deliveries: int | None
    operations: int | None
    sync: int | None


def find_due_times(conn: Conn) -> DueTimes:
    """Return the next due times, in one query."""
    queries = (
        webhooks_repository.NEXT_DUE_AT_QUERY,
        repository.NEXT_DUE_AT_QUERY,
        sync_repository.OLDEST_UNFINISHED,
    )
    return DueTimes(*conn.execute(sa.select(*(it.scalar_subquery() for it in queries))).one())
