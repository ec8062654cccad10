"""What is missing or wrong, one line each: every setting looked at, every connection tried. No secret is printed."""

from msgspec import Struct

from instep.app.config import BadSettings, Settings, unknown_settings
from instep.app.database import make_db
from instep.app.health import require_room
from instep.app.wiring import make_clerk, make_sign_in
from instep.clerk.client import ClerkClient
from instep.clerk.webhook import Verifier
from instep.identity.roles import MANAGE_MEMBERS, Role, Roles, has_management
from instep.inbox import instance, store
from instep.kit.clock import HOUR, now
from instep.kit.db import Conn, Db, is_pooled
from instep.kit.errors import InstepError, described
from instep.kit.schema import check
from instep.mirror import held
from instep.mirror.search import has_index
from instep.mirror.snapshot import is_empty
from instep.people.store import find_without_admin
from instep.sync.fresh import Fresh
from instep.sync.look import list_runs
from instep.sync.model import Run

NAMED = 3


class Finding(Struct, frozen=True):
    """One thing that was looked at. `text` says what was found and, where it is wrong, what to do."""

    what: str
    is_good: bool
    text: str


NOBODY = Finding("Admins", True, "no organization is here yet")


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything, in the order in which it should be mended."""
    clerk = make_clerk(settings)
    try:
        key = await _secret_key(settings, clerk)
        return [
            *(Finding("Settings", False, line) for line in unknown_settings()),
            *_database(settings),
            key,
            *(await _instance(settings, clerk if key.is_good else None)),
            await _publishable_key(settings, clerk),
            _webhook_secret(settings),
            *([await _roles(settings, clerk), *await _webhook(settings, clerk)] if key.is_good else ()),
            _public_url(settings),
            _admin_key(settings),
        ]
    finally:
        await clerk.close()


def _database(settings: Settings) -> list[Finding]:
    try:
        db = make_db(settings)
    except BadSettings as error:
        return [Finding("Database", False, str(error))]
    try:
        return [*_inside(db), *_pooler(settings, db)]
    except Exception as error:
        return [Finding("Database", False, described(error).splitlines()[0])]
    finally:
        db.close()


def _pooler(settings: Settings, db: Db) -> list[Finding]:
    """Look whether a connection pooler stands before PostgreSQL, and whether notices get past it."""
    if db.is_sqlite:
        return []
    listen_url = settings.instep_database_listen_url
    if listen_url is None:
        if not db.reading(is_pooled):
            return []
        text = "a connection pooler is in front of the database, and INSTEP_DATABASE_LISTEN_URL is not set: "
        text += "instep looks for work every second, and open pages follow only their own process. "
        return [Finding("Notices", True, text + "Set it to a direct address of the same database")]
    return [_listening(listen_url.get_secret_value())]


def _listening(url: str) -> Finding:
    what = "INSTEP_DATABASE_LISTEN_URL"
    try:
        db = Db(url)
    except (ValueError, OSError) as error:
        return Finding(what, False, str(error))
    try:
        is_direct = not db.reading(is_pooled)
    except InstepError as error:
        return Finding(what, False, described(error))
    finally:
        db.close()
    return Finding(what, is_direct, "direct" if is_direct else "a pooler answers there: use the database's own address")


def _inside(db: Db) -> list[Finding]:
    check(db.engine)
    require_room(db)
    try:
        db.writing(store.try_write, at=now())
    except InstepError as error:
        return [Finding("Database", False, f"can be read but not written: {described(error)}")]
    unsettled = db.reading(store.count_by_state)
    due = db.reading(store.next_due_at)
    parked = unsettled.get("parked", 0)
    late = due is not None and due < now() - HOUR
    inbox = "deliveries wait for over an hour: is `instep serve` running?" if late else f"{parked} parked"
    return [
        Finding("Database", True, f"{db.engine.dialect.name}, schema up to date"),
        Finding("Inbox", not (late or parked), inbox),
        _sync(db.reading(list_runs, now=now(), limit=1)),
        _search(db),
        NOBODY if db.reading(is_empty) else _admins(db.reading(find_without_admin)),
    ]


EVENTS = "user.*, organization.*, organizationMembership.*, organizationInvitation.*, session.*, role.*, permission.*"


"""What the webhook endpoint in Clerk subscribes to."""


async def _roles(settings: Settings, clerk: ClerkClient) -> Finding:
    """Which roles make an admin, by Clerk's roles and by the settings."""
    what = "Roles"
    try:
        found = await clerk.list_roles()
    except InstepError as error:
        return Finding(what, False, f"Clerk does not say which roles there are: {error}")
    if not found.roles:
        return Finding(what, True, "the instance has no organization roles")
    named = frozenset(settings.instep_admin_roles)
    listed = (
        Role(it.key, it.name, has_management(it.permissions or ()), it.key == found.default) for it in found.roles
    )
    roles = Roles(tuple(sorted(listed)), named)
    keys = ", ".join(it.key for it in roles.listed)
    if unknown := sorted(named - {it.key for it in roles.listed}):
        return Finding(what, False, f"INSTEP_ADMIN_ROLES names {', '.join(unknown)}; there are: {keys}")
    if not roles.admins:
        return Finding(
            what, False, f"none of {keys} has {MANAGE_MEMBERS}; name the admins' roles in INSTEP_ADMIN_ROLES"
        )
    return Finding(what, True, f"{keys}; admins: {', '.join(sorted(roles.admins))}; default: {roles.default}")


def _sync(runs: list[Run]) -> Finding:
    """How the last run ended; one whose process died says that it runs, and is over."""
    if not runs:
        return Finding("Sync", True, "no run yet")
    last = runs[0]
    if last.code == "interrupted":
        again = "apply" if last.kind == "first" else last.kind
        onward = " goes on with it" if last.kind == "first" else ", to start it again"
        return Finding("Sync", False, f"the last run ({last.kind}) was interrupted: `instep sync {again}`{onward}")
    if last.state in ("failed", "refused"):
        return Finding("Sync", False, f"the last run ({last.kind}) {last.state}: {last.reason}")
    return Finding("Sync", True, f"the last run ({last.kind}) is {last.state}")


def _admins(adminless: list[tuple[str, str]]) -> Finding:
    if not adminless:
        return Finding("Admins", True, "every organization with members has an active admin")
    names = ", ".join(name for _, name in adminless[:NAMED]) + (", ..." if len(adminless) > NAMED else "")
    is_one = len(adminless) == 1
    words = f"{len(adminless)} organization{'' if is_one else 's'} with members and no active admin: {names}"
    return Finding("Admins", False, f"{words}; make someone admin in the console, or `instep role`")


def _search(db: Db) -> Finding:
    if db.reading(held.list_held):
        words = "slow among many people: some indexes wait for a first sync to be through"
        return Finding("Search", False, f"{words}; if none runs, `instep migrate` makes them")
    if db.reading(has_index):
        return Finding("Search", True, "indexed")
    if db.is_sqlite:
        return Finding("Search", False, "slow among many people: this SQLite lacks FTS5 with trigrams (3.34 or newer)")
    how = "let somebody who may run CREATE EXTENSION pg_trgm in this database, then: instep migrate"
    return Finding("Search", False, f"slow among many people: {how}")


async def _secret_key(settings: Settings, clerk: ClerkClient) -> Finding:
    what = "CLERK_SECRET_KEY"
    if settings.clerk_secret_key is None:
        return Finding(what, False, "not set: nobody can be invited, and invitations can't be shown")
    try:
        users = await clerk.count_users()
    except InstepError as error:
        return Finding(what, False, f"tried {settings.clerk_api_url}: {error}")
    return Finding(what, True, f"accepted by {settings.clerk_api_url}; {users} users there")


async def _instance(settings: Settings, clerk: ClerkClient | None) -> list[Finding]:
    """Look whether the database belongs to the secret key's instance; `clerk` None: the key can't be asked."""
    try:
        db = make_db(settings)
    except BadSettings:
        return []
    try:
        known = db.reading(_known_of_instance)
        theirs = await clerk.find_instance() if clerk else None
    except Exception:  # the database's and the key's own lines say why
        return []
    finally:
        db.close()
    return [_bound(known, theirs), *([_foreign(known)] if known.foreign else [])]


class _Known(Struct, frozen=True, kw_only=True):
    """What the database has about instances: see inbox.instance. `foreign` counts deliveries of another one."""

    bound: str | None
    from_a_delivery: str | None
    replaced: str | None
    waiting: int
    foreign: int
    last_foreign: str | None


def _known_of_instance(conn: Conn) -> _Known:
    last = store.list_deliveries(conn, store.Filter(is_foreign=True), limit=1)
    counts = store.count_by_state(conn)
    return _Known(
        bound=instance.find_bound(conn),
        from_a_delivery=store.find_fact(conn, instance.FROM_A_DELIVERY),
        replaced=store.find_fact(conn, instance.REPLACED),
        waiting=counts.get("new", 0) + counts.get("waiting", 0),
        foreign=counts.get("foreign", 0),
        last_foreign=instance.instance_of(store.find_body(conn, last[0].id) or "") if last else None,
    )


def _bound(known: _Known, theirs: str | None) -> Finding:
    what = "Instance"
    if known.bound is None:
        waiting = f"; {known.waiting} deliveries wait for that" if known.waiting else ""
        earlier = f"; a delivery had named {known.from_a_delivery}" if known.from_a_delivery else ""
        if theirs is None:
            return Finding(what, False, f"not known yet: Clerk must tell it for the secret key{earlier}{waiting}")
        text = f"{theirs} by the secret key, kept when `instep serve` or `instep work` starts{earlier}{waiting}"
        return Finding(what, not known.waiting, text)
    if theirs is not None and theirs != known.bound:
        text = f"this database belongs to {known.bound}, and the secret key to {theirs}: set the key of {known.bound}, "
        return Finding(what, False, f"{text}use another database, or see `instep instance --rebind`")
    replaced = f"; a delivery had bound this database to {known.replaced}" if known.replaced else ""
    compared = "as the secret key says" if theirs else "not compared with the secret key"
    return Finding(what, True, f"{known.bound}, {compared}{replaced}")


def _foreign(known: _Known) -> Finding:
    is_one = known.foreign == 1
    what = f"{known.foreign} {'delivery was' if is_one else 'deliveries were'} kept and not applied"
    return Finding(
        "Other instances",
        True,
        f"{what}, the last of {known.last_foreign}: a test sent from Clerk's dashboard, or an endpoint of another "
        "instance with our signing secret",
    )


async def _publishable_key(settings: Settings, clerk: ClerkClient) -> Finding:
    what = "CLERK_PUBLISHABLE_KEY"
    try:
        sign_in = make_sign_in(settings, clerk, now)
    except BadSettings as error:
        return Finding(what, False, str(error).removeprefix(f"{what}: "))
    if sign_in is None:
        return Finding(what, False, "not set: nobody can sign in through Clerk")
    return Finding(what, True, f"sign-in at {sign_in.frontend_api}")


def _webhook_secret(settings: Settings) -> Finding:
    what = "CLERK_WEBHOOK_SIGNING_SECRET"
    if not settings.webhook_secrets:
        return Finding(
            what,
            False,
            f"not set: every webhook is refused; it is shown with the endpoint in Clerk, which subscribes to: {EVENTS}",
        )
    try:
        Verifier(settings.webhook_secrets)
    except ValueError as error:
        return Finding(what, False, str(error))
    return Finding(what, True, f"{len(settings.webhook_secrets)} set")


async def _webhook(settings: Settings, clerk: ClerkClient) -> list[Finding]:
    """Whether deliveries still come while Clerk goes on changing."""
    try:
        db = make_db(settings)
    except BadSettings:
        return []
    try:
        if db.reading(is_empty):
            if not await clerk.count_users():
                return [Finding("Webhook", True, "nobody is in Clerk yet, and nobody here")]
            return [Finding("Webhook", False, "nothing was synced yet: run `instep sync apply`")]
        newest, first = store.find_newest_applied, store.find_first_received
        fresh = Fresh(db=db, source=clerk.everything(), clock=now, newest_event=newest, first_event=first)
        found = await fresh.look()
        words = found.words and (found.words if found.is_synced else f"{found.words} Run: instep sync apply")
    except Exception:  # the database's and the key's own lines say why
        return []
    finally:
        db.close()
    is_well = f"nothing that Clerk changed is missing here; the endpoint subscribes to {EVENTS}"
    return [Finding("Webhook", words is None, words or is_well)]


def _public_url(settings: Settings) -> Finding:
    url = settings.instep_public_url
    is_good = url.startswith("https://") or "://127.0.0.1" in url or "://localhost" in url
    return Finding("INSTEP_PUBLIC_URL", is_good, url if is_good else f"{url}: use https, else cookies can be read")


def _admin_key(settings: Settings) -> Finding:
    text = "set" if settings.instep_admin_key else "not set: no way in while Clerk is down"
    return Finding("INSTEP_ADMIN_KEY", True, text)
