"""The configured database, and which fields of people belong to it."""

from instep.app.config import BadSettings, Settings
from instep.identity.roles import ADMIN_ROLES
from instep.kit.db import Db
from instep.mirror.owned import OWNED
from instep.sync.plan import OURS_BY_DEFAULT, WRITABLE, Policy


def make_db(settings: Settings) -> Db:
    """Return the configured database, not opened yet.

    Raises BadSettings, in one line that names the setting, for an address that is none or a folder that can't be made.
    """
    try:
        return Db(settings.database_url, options=options_of(settings))
    except ValueError as error:
        raise BadSettings(f"{settings.database_setting}: {error}") from None
    except OSError as error:
        raise BadSettings(f"{settings.database_setting}: can't make {error.filename}: {error.strerror}") from None


def options_of(settings: Settings) -> dict[str, object]:
    """Return what goes with every connection, so that no reader or writer can forget it. Raises BadSettings."""
    return {OWNED: make_policy(settings).database, ADMIN_ROLES: frozenset(settings.instep_admin_roles)}


def make_policy(settings: Settings) -> Policy:
    """Which fields are the database's. Raises BadSettings for one that can only be Clerk's."""
    wanted = frozenset(settings.instep_database_owns)
    if bad := sorted(wanted - OURS_BY_DEFAULT - WRITABLE):
        known = " ".join(sorted(OURS_BY_DEFAULT | WRITABLE))
        raise BadSettings(f"INSTEP_DATABASE_OWNS: {' '.join(bad)} can't belong to the database; these can: {known}")
    return Policy(wanted)
