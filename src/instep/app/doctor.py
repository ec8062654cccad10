"""Diagnostics of an installation: settings, database, Clerk and webhooks."""

from msgspec import Struct

from instep.app.config import Settings, SettingsError, find_unknown_settings
from instep.app.container import make_clerk, make_sign_in
from instep.app.database import make_db
from instep.app.health import require_disk_space
from instep.clerk.client import ClerkClient
from instep.clerk.webhook_signature import WebhookVerifier
from instep.core.clock import HOUR, now
from instep.core.db import Conn, Database, is_behind_connection_pooler
from instep.core.errors import InstepError, describe_error
from instep.core.schema_migrations import check_schema
from instep.domain.roles import MANAGE_MEMBERS_PERMISSION, OrganizationRole, RoleCatalog, can_manage_members
from instep.members.repository import find_organizations_without_admin
from instep.mirror import deferred_indexes, instance_binding
from instep.mirror.search import has_search_index
from instep.mirror.snapshot import is_mirror_empty
from instep.sync.jobs import FreshnessMonitor
from instep.sync.models import Run
from instep.sync.repository import list_runs
from instep.webhooks import filters, repository

MAX_NAMED_ORGANIZATIONS = 3


class DiagnosticResult(Struct, frozen=True):
    """Result of one check. `text` says what was found and, for a problem, what to do."""

    what: str
    is_good: bool
    text: str


NO_ORGANIZATIONS = DiagnosticResult("Admins", True, "no organizations yet")


async def run_diagnostics(settings: Settings) -> list[DiagnosticResult]:
    """Run all checks, in the order in which problems should be fixed."""
    clerk = make_clerk(settings)
    try:
        key = await _check_secret_key(settings, clerk)
        return [
            *(DiagnosticResult("Settings", False, line) for line in find_unknown_settings()),
            *_check_database(settings),
            key,
            *(await _check_instance(settings, clerk if key.is_good else None)),
            await _check_publishable_key(settings, clerk),
            _check_webhook_secret(settings),
            *([await _check_roles(settings, clerk), *await _check_webhook(settings, clerk)] if key.is_good else ()),
            _check_public_url(settings),
            _check_admin_key(settings),
        ]
    finally:
        await clerk.close()


def _check_database(settings: Settings) -> list[DiagnosticResult]:
    try:
        db = make_db(settings)
    except SettingsError as error:
        return [DiagnosticResult("Database", False, str(error))]
    try:
        return [*_check_database_contents(db), *_check_connection_pooler(settings, db)]
    except Exception as error:
        return [DiagnosticResult("Database", False, describe_error(error).splitlines()[0])]
    finally:
        db.close()


def _check_connection_pooler(settings: Settings, db: Database) -> list[DiagnosticResult]:
    """Check for a connection pooler before PostgreSQL, and that notifications bypass it."""
    if db.is_sqlite:
        return []
    listen_url = settings.instep_database_listen_url
    if listen_url is None:
        if not db.read_sync(is_behind_connection_pooler):
            return []
        text = "a connection pooler is in front of the database, and INSTEP_DATABASE_LISTEN_URL is not set: "
        text += "instep looks for work every second, and open pages follow only their own process. "
        return [DiagnosticResult("Notices", True, text + "Set it to a direct address of the same database")]
    return [_check_listen_url(listen_url.get_secret_value())]


def _check_listen_url(url: str) -> DiagnosticResult:
    what = "INSTEP_DATABASE_LISTEN_URL"
    try:
        db = Database(url)
    except (ValueError, OSError) as error:
        return DiagnosticResult(what, False, str(error))
    try:
        is_direct = not db.read_sync(is_behind_connection_pooler)
    except InstepError as error:
        return DiagnosticResult(what, False, describe_error(error))
    finally:
        db.close()
    return DiagnosticResult(
        what, is_direct, "direct" if is_direct else "a pooler answers there: use the database's own address"
    )


def _check_database_contents(db: Database) -> list[DiagnosticResult]:
    check_schema(db.engine)
    require_disk_space(db)
    try:
        db.write_sync(repository.probe_write, at=now())
    except InstepError as error:
        return [DiagnosticResult("Database", False, f"can be read but not written: {describe_error(error)}")]
    pending = db.read_sync(repository.count_by_state)
    due = db.read_sync(repository.find_next_due_at)
    failed = pending.get("parked", 0)
    late = due is not None and due < now() - HOUR
    text = "deliveries have waited for over an hour: is `instep serve` running?" if late else f"{failed} failed"
    return [
        DiagnosticResult("Database", True, f"{db.engine.dialect.name}, schema up to date"),
        DiagnosticResult("Deliveries", not (late or failed), text),
        _check_last_sync(db.read_sync(list_runs, now=now(), limit=1)),
        _check_search_index(db),
        NO_ORGANIZATIONS
        if db.read_sync(is_mirror_empty)
        else _check_admins(db.read_sync(find_organizations_without_admin)),
    ]


WEBHOOK_EVENTS = (
    "user.*, organization.*, organizationMembership.*, organizationInvitation.*, session.*, role.*, permission.*"
)
"""Event types that the webhook endpoint in Clerk subscribes to."""


async def _check_roles(settings: Settings, clerk: ClerkClient) -> DiagnosticResult:
    """Report the roles that make an admin, by Clerk's roles and by the settings."""
    what = "Roles"
    try:
        found = await clerk.list_roles()
    except InstepError as error:
        return DiagnosticResult(what, False, f"Clerk does not list the roles: {error}")
    if not found.roles:
        return DiagnosticResult(what, True, "the instance has no organization roles")
    named = frozenset(settings.instep_admin_roles)
    listed = (
        OrganizationRole(it.key, it.name, can_manage_members(it.permissions or ()), it.key == found.default)
        for it in found.roles
    )
    roles = RoleCatalog(tuple(sorted(listed)), named)
    keys = ", ".join(it.key for it in roles.instance_roles)
    if unknown := sorted(named - {it.key for it in roles.instance_roles}):
        return DiagnosticResult(what, False, f"INSTEP_ADMIN_ROLES names {', '.join(unknown)}; there are: {keys}")
    if not roles.admins:
        return DiagnosticResult(
            what, False, f"none of {keys} has {MANAGE_MEMBERS_PERMISSION}; name the admins' roles in INSTEP_ADMIN_ROLES"
        )
    return DiagnosticResult(what, True, f"{keys}; admins: {', '.join(sorted(roles.admins))}; default: {roles.default}")


def _check_last_sync(runs: list[Run]) -> DiagnosticResult:
    """Report the end of the last run; one whose process died counts as interrupted."""
    if not runs:
        return DiagnosticResult("Sync", True, "no run yet")
    last = runs[0]
    if last.code == "interrupted":
        again = "apply" if last.kind == "first" else last.kind
        next_step = " resumes it" if last.kind == "first" else " starts it again"
        return DiagnosticResult(
            "Sync", False, f"the last run ({last.kind}) was interrupted: `instep sync {again}`{next_step}"
        )
    if last.state in ("failed", "refused"):
        return DiagnosticResult("Sync", False, f"the last run ({last.kind}) {last.state}: {last.reason}")
    return DiagnosticResult("Sync", True, f"the last run ({last.kind}) is {last.state}")


def _check_admins(adminless: list[tuple[str, str]]) -> DiagnosticResult:
    if not adminless:
        return DiagnosticResult("Admins", True, "every organization with members has an active admin")
    names = ", ".join(name for _, name in adminless[:MAX_NAMED_ORGANIZATIONS]) + (
        ", ..." if len(adminless) > MAX_NAMED_ORGANIZATIONS else ""
    )
    is_one = len(adminless) == 1
    words = f"{len(adminless)} organization{'' if is_one else 's'} with members and no active admin: {names}"
    return DiagnosticResult("Admins", False, f"{words}; make someone admin in the console, or `instep role`")


def _check_search_index(db: Database) -> DiagnosticResult:
    if db.read_sync(deferred_indexes.list_deferred_indexes):
        words = "slow among many people: some indexes are deferred until the first sync completes"
        return DiagnosticResult("Search", False, f"{words}; if none runs, `instep migrate` creates them")
    if db.read_sync(has_search_index):
        return DiagnosticResult("Search", True, "indexed")
    if db.is_sqlite:
        return DiagnosticResult(
            "Search", False, "slow among many people: this SQLite lacks FTS5 with trigrams (3.34 or newer)"
        )
    how = "have a database user with that right run CREATE EXTENSION pg_trgm, then: instep migrate"
    return DiagnosticResult("Search", False, f"slow among many people: {how}")


async def _check_secret_key(settings: Settings, clerk: ClerkClient) -> DiagnosticResult:
    what = "CLERK_SECRET_KEY"
    if settings.clerk_secret_key is None:
        return DiagnosticResult(what, False, "not set: nobody can be invited, and invitations can't be shown")
    try:
        users = await clerk.count_users()
    except InstepError as error:
        return DiagnosticResult(what, False, f"tried {settings.clerk_api_url}: {error}")
    return DiagnosticResult(what, True, f"accepted by {settings.clerk_api_url}; {users} users there")


async def _check_instance(settings: Settings, clerk: ClerkClient | None) -> list[DiagnosticResult]:
    """Check that the database belongs to the secret key's instance; `clerk` None: the key does not work."""
    try:
        db = make_db(settings)
    except SettingsError:
        return []
    try:
        known = db.read_sync(_read_instance_facts)
        theirs = await clerk.find_instance() if clerk else None
    except Exception:  # the database's and the key's own lines say why
        return []
    finally:
        db.close()
    return [_check_instance_binding(known, theirs), *([_report_foreign_deliveries(known)] if known.foreign else [])]


class _InstanceFacts(Struct, frozen=True, kw_only=True):
    """Instance ids stored in the database: see mirror.instance_binding. `foreign` counts deliveries of another one."""

    bound: str | None
    from_a_delivery: str | None
    replaced: str | None
    waiting: int
    foreign: int
    last_foreign: str | None


def _read_instance_facts(conn: Conn) -> _InstanceFacts:
    last = repository.list_deliveries(conn, filters.DeliveryFilter(is_foreign=True), limit=1)
    counts = repository.count_by_state(conn)
    return _InstanceFacts(
        bound=instance_binding.find_bound_instance(conn),
        from_a_delivery=instance_binding.find_fact(conn, instance_binding.LEGACY_INSTANCE_FACT),
        replaced=instance_binding.find_fact(conn, instance_binding.REPLACED_INSTANCE_FACT),
        waiting=counts.get("new", 0) + counts.get("waiting", 0),
        foreign=counts.get("foreign", 0),
        last_foreign=instance_binding.parse_instance_id(repository.find_body(conn, last[0].id) or "") if last else None,
    )


def _check_instance_binding(known: _InstanceFacts, theirs: str | None) -> DiagnosticResult:
    what = "Instance"
    if known.bound is None:
        waiting = f"; {known.waiting} deliveries wait for that" if known.waiting else ""
        earlier = f"; a delivery had named {known.from_a_delivery}" if known.from_a_delivery else ""
        if theirs is None:
            return DiagnosticResult(
                what, False, f"not known yet: Clerk must report it for the secret key{earlier}{waiting}"
            )
        text = f"{theirs} by the secret key, kept when `instep serve` or `instep work` starts{earlier}{waiting}"
        return DiagnosticResult(what, not known.waiting, text)
    if theirs is not None and theirs != known.bound:
        text = f"this database belongs to {known.bound}, and the secret key to {theirs}: set the key of {known.bound}, "
        return DiagnosticResult(what, False, f"{text}use another database, or see `instep instance --rebind`")
    replaced = f"; a delivery had bound this database to {known.replaced}" if known.replaced else ""
    compared = "as the secret key says" if theirs else "not compared with the secret key"
    return DiagnosticResult(what, True, f"{known.bound}, {compared}{replaced}")


def _report_foreign_deliveries(known: _InstanceFacts) -> DiagnosticResult:
    is_one = known.foreign == 1
    what = f"{known.foreign} {'delivery was' if is_one else 'deliveries were'} kept and not applied"
    return DiagnosticResult(
        "Other instances",
        True,
        f"{what}, the last of {known.last_foreign}: a test sent from Clerk's dashboard, or an endpoint of another "
        "instance with our signing secret",
    )


async def _check_publishable_key(settings: Settings, clerk: ClerkClient) -> DiagnosticResult:
    what = "CLERK_PUBLISHABLE_KEY"
    try:
        sign_in = make_sign_in(settings, clerk, now)
    except SettingsError as error:
        return DiagnosticResult(what, False, str(error).removeprefix(f"{what}: "))
    if sign_in is None:
        return DiagnosticResult(what, False, "not set: nobody can sign in through Clerk")
    return DiagnosticResult(what, True, f"sign-in at {sign_in.frontend_api}")


def _check_webhook_secret(settings: Settings) -> DiagnosticResult:
    what = "CLERK_WEBHOOK_SIGNING_SECRET"
    if not settings.webhook_secrets:
        return DiagnosticResult(
            what,
            False,
            "not set: every webhook is refused; it is shown with the endpoint in Clerk, which subscribes to: "
            + WEBHOOK_EVENTS,
        )
    try:
        WebhookVerifier(settings.webhook_secrets)
    except ValueError as error:
        return DiagnosticResult(what, False, str(error))
    return DiagnosticResult(what, True, f"{len(settings.webhook_secrets)} set")


async def _check_webhook(settings: Settings, clerk: ClerkClient) -> list[DiagnosticResult]:
    """Check that deliveries keep arriving while Clerk changes."""
    try:
        db = make_db(settings)
    except SettingsError:
        return []
    try:
        if db.read_sync(is_mirror_empty):
            if not await clerk.count_users():
                return [DiagnosticResult("Webhook", True, "no users in Clerk yet, and none here")]
            return [DiagnosticResult("Webhook", False, "nothing was synced yet: run `instep sync apply`")]
        monitor = FreshnessMonitor(
            db=db,
            source=clerk.make_scanner(),
            clock=now,
            find_newest_event_at=repository.find_newest_applied_at,
            find_first_event_at=repository.find_first_received_at,
        )
        found = await monitor.check()
        warning = found.warning and (found.warning if found.is_synced else f"{found.warning} Run: instep sync apply")
    except Exception:  # the database's and the key's own lines say why
        return []
    finally:
        db.close()
    text = f"no change in Clerk is missing here; the endpoint subscribes to {WEBHOOK_EVENTS}"
    return [DiagnosticResult("Webhook", warning is None, warning or text)]


def _check_public_url(settings: Settings) -> DiagnosticResult:
    url = settings.instep_public_url
    is_good = url.startswith("https://") or "://127.0.0.1" in url or "://localhost" in url
    return DiagnosticResult(
        "INSTEP_PUBLIC_URL", is_good, url if is_good else f"{url}: use https, else cookies can be read"
    )


def _check_admin_key(settings: Settings) -> DiagnosticResult:
    text = "set" if settings.instep_admin_key else "not set: no sign-in while Clerk is down"
    return DiagnosticResult("INSTEP_ADMIN_KEY", True, text)
