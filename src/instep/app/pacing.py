"""The pace at which Clerk is called, from the settings: one for all replicas."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from instep.app.config import BadSettings, Settings
from instep.clerk.pacer import Pacer
from instep.kit.db import Db
from instep.kit.pace import Limit

LIVE, TEST = 1_000, 100
CLERK = "api.clerk.com"


def _nobody(*_: Any) -> None:
    pass


def make_pacer(
    settings: Settings, *, waited: Callable[[float], None] = _nobody, limited: Callable[[], None] = _nobody
) -> Pacer | None:
    """Permits from the shared row; None where no call has to wait. Raises BadSettings for no database's address."""
    most = most_of(settings)
    if most is None:
        return None
    url = settings.database_url
    if url.startswith("sqlite"):  # a file of its own: a permit must not wait for a long transaction of a sync
        path, mark, query = url.partition("?")
        url = f"{path}-pace{mark}{query}"
    try:
        db = Db(url, threads=1, survives_power=False)
    except (ValueError, OSError) as error:
        raise BadSettings(f"{settings.database_setting}: {error}") from None
    return Pacer(db, Limit(most), waited=waited, limited=limited)


def most_of(settings: Settings) -> int | None:
    """How many calls in any 10 seconds; None: any number."""
    key = settings.clerk_secret_key
    if settings.instep_pace == "off" or key is None:
        return None
    if settings.instep_pace != "auto":
        return settings.instep_pace
    if urlsplit(settings.clerk_api_url).hostname != CLERK:
        return None
    return LIVE if key.get_secret_value().startswith("sk_live_") else TEST
