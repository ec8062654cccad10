"""The composition root: every part with what it needs, from the settings. Nothing is opened here."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from instep.access.attention import TOPIC as ATTENTION
from instep.access.flows import Sessions
from instep.access.gate import COOKIE, Gate
from instep.access.impersonation import CODE as IMPERSONATION
from instep.access.impersonation import Attempt, Impersonation
from instep.access.keys import ApiKeys
from instep.access.limits import BreakGlass, RateLimiter
from instep.access.pages import AccessPages
from instep.access.paths import CookieJar
from instep.access.ports import SessionSource
from instep.access.principal import BREAK_GLASS, Principal
from instep.access.refusal_log import RefusalLog
from instep.access.store import KeyRow
from instep.app.clock_watch import ClockWatch
from instep.app.config import BadSettings, Settings
from instep.app.database import make_db
from instep.app.jobs import make_jobs
from instep.app.metrics import Metrics
from instep.app.pacing import make_pacer
from instep.app.store import find_due_times
from instep.app.syncing import Syncing, make_syncing
from instep.app.timer import Timer
from instep.app.worker import DEFERRED, Worker
from instep.audit.store import Entry, record
from instep.clerk import wire
from instep.clerk.client import ClerkClient
from instep.clerk.handshake import Handshake, frontend_api_of, sign_in_page_of
from instep.clerk.jwks import Jwks
from instep.clerk.pacer import Pacer
from instep.clerk.session import Verifier as TokenVerifier
from instep.clerk.webhook import Verifier
from instep.history.flows import Operations
from instep.identity.addresses import canonical
from instep.inbox.arrival import Arrival
from instep.inbox.receive import Receiver
from instep.inbox.review import TOPIC as DELIVERIES
from instep.inbox.review import Deliveries
from instep.inbox.work import Work, Worked
from instep.invitations import desk
from instep.invitations.flows import Invite
from instep.invitations.store import list_lost as find_lost
from instep.journal.model import Asked, Operation, Procedures
from instep.journal.run import Runner
from instep.kit.clock import MINUTE, Clock, is_within
from instep.kit.clock import now as system_now
from instep.kit.db import Conn, Db
from instep.kit.headers import Policy, origin_of
from instep.kit.html import Pages, make_pages
from instep.kit.live import Live
from instep.kit.relay import Relay
from instep.people.around import Lost
from instep.people.bulk import Bulk
from instep.people.changes import MemberChanges
from instep.people.consequences import FindConsequences
from instep.people.export import Export
from instep.people.flows import ListPeople
from instep.people.members import Members
from instep.people.procedures import MemberProcedures
from instep.profiles import desk as profiles_desk
from instep.profiles.flows import Profiles, make_profiles
from instep.profiles.held import Held
from instep.profiles.procedures import procedures as profile_procedures

log = structlog.get_logger(__name__)
BURST = 3  # seconds' worth of requests that may come at once
OUTCOMES = {"open": "asked", "settled": "done", "refused": "refused", "attention": "attention", "given_up": "given up"}


@dataclass(frozen=True)
class Services:
    """Everything one process serves with."""

    settings: Settings
    db: Db
    clerk: ClerkClient
    clock: Clock
    live: Live
    relay: Relay | None
    metrics: Metrics
    work: Work
    worker: Worker
    timer: Timer
    receiver: Receiver
    gate: Gate
    limiter: RateLimiter | None
    keys: ApiKeys
    members: Members
    profiles: Profiles
    runner: Runner
    invite: Invite
    invitations: desk.Desk
    pages: Pages
    access_pages: AccessPages
    syncing: Syncing

    def start(self, *, has_worker: bool) -> None:
        """Begin what runs by itself, on the running event loop."""
        if self.relay is not None:
            self.relay.start()
        if has_worker:
            self.worker.start()
            self.timer.start()

    async def stop(self) -> None:
        """End what runs by itself; doing so twice is fine."""
        await asyncio.gather(self.worker.stop(), self.timer.stop())
        if self.relay is not None:
            await self.relay.stop()

    async def close(self) -> None:
        """Stop what runs and close what is open."""
        await self.stop()
        await self.clerk.close()
        self.db.close()


def make_services(settings: Settings, *, clerk: ClerkClient | None = None, clock: Clock = system_now) -> Services:
    """Put everything together. `clerk` stands in for the real client in tests. Raises BadSettings."""
    db = make_db(settings)
    live, metrics = Live(), Metrics()
    clerk = clerk or make_clerk(
        settings, pacer=make_pacer(settings, waited=metrics.clerk_wait.inc, limited=metrics.clerk_limited.inc)
    )
    syncing = make_syncing(settings, db, clerk, clock, live.publish)
    told = _teller(live, metrics)
    work = Work(db=db, directory=clerk, read=wire.say, told=told, clock=clock, read_roles=syncing.roles.read)
    held = Held()
    procedures = make_procedures(clerk, _noter(clock), clock, held)
    impersonation = Impersonation(db=db, clock=clock, policy=settings.instep_impersonation, noted=_attempt_noter(clock))
    runner = make_runner(db, procedures, live, clock, impersonation)
    relay = None if db.is_sqlite else Relay(db, live, listen_url=_plain(settings, "instep_database_listen_url"))
    worker = make_worker(work, runner, live, syncing, relay)
    url = settings.instep_public_url
    invitations = desk.make_desk(db, runner, clerk, redirect_url=url, clock=clock, admins=admins_of(settings))
    sign_in = make_sign_in(settings, clerk, clock)
    keys = ApiKeys(db=db, noted=_key_noter(clock), clock=clock)
    arrival = Arrival(db=db, directory=clerk, told=live.publish, clock=clock)
    gate = make_gate(settings, clerk, arrival, sign_in, keys, impersonation)
    pages = make_pages(public_url=settings.instep_public_url, policy=_policy(settings, sign_in), clock=clock)
    return Services(
        settings=settings,
        db=db,
        clerk=clerk,
        clock=clock,
        live=live,
        relay=relay,
        metrics=metrics,
        work=work,
        worker=worker,
        timer=Timer(db, make_jobs(db, clock, syncing)),
        receiver=Receiver(db=db, opener=_opener(settings), clock=clock, wake=worker.wake),
        gate=gate,
        limiter=make_limiter(settings),
        keys=keys,
        members=make_members(settings, runner, clerk, live, clock),
        profiles=make_profiles(
            profiles_desk.Desk(db, runner, admins_of(settings), live.publish, clock),
            held,
            clerk,
            policy=settings.instep_email_change,
            redirect_url=url,
        ),
        runner=runner,
        invite=invitations.invite,
        invitations=invitations,
        pages=pages,
        access_pages=AccessPages(pages, gate, gate.sessions, gate.break_glass, sign_in, url),
        syncing=syncing,
    )


def make_runner(db: Db, procedures: Procedures, live: Live, clock: Clock, impersonation: Impersonation) -> Runner:
    """Return what carries operations out, and tells open pages and workers of those that wait."""
    return Runner(
        db=db,
        procedures=procedures,
        noted=_noter(clock),
        clock=clock,
        attention=lambda: live.publish([ATTENTION]),
        deferred=lambda: live.publish([DEFERRED]),
        permit=_permitter(impersonation),
        scheduled=desk.SCHEDULED,
    )


def make_worker(work: Work, runner: Runner, live: Live, syncing: Syncing, relay: Relay | None) -> Worker:
    """Return the background work of one process, not started."""
    db = runner.db
    worker = Worker(
        work,
        runner,
        live,
        syncing.chores(),
        syncing.asked.run_once,
        due_times=lambda: db.read(find_due_times),
        hears_all=lambda: relay is not None and relay.is_listening.is_set(),
        clock=runner.clock,
    )
    worker.watch = ClockWatch(work.clock, (work.pull_in, runner.pull_in), worker.wake)
    return worker


def make_gate(
    settings: Settings,
    source: SessionSource,
    arrival: Arrival,
    sign_in: Handshake | None,
    keys: ApiKeys,
    impersonation: Impersonation,
) -> Gate:
    """Build what every route asks first: who sends a request, and what they may do."""
    db, clock = impersonation.db, impersonation.clock
    break_glass = BreakGlass(key=_plain(settings, "instep_admin_key"), on_use=_key_watch(clock))
    sessions = Sessions(
        db=db,
        source=source,
        break_glass=break_glass,
        admins=admins_of(settings),
        clock=clock,
        just_in_time=arrival,
        noted=_session_noter(clock),
    )
    return Gate(
        db=db,
        sessions=sessions,
        break_glass=break_glass,
        sign_in=sign_in,
        keys=keys,
        refused=RefusalLog(log.warning, clock).note,
        impersonation=impersonation,
        cookie=cookie_name_of(settings),
    )


def admins_of(settings: Settings) -> frozenset[str]:
    """Return the Clerk ids and canonical addresses of instance admins that the settings name."""
    return frozenset(it if it.startswith("user_") else canonical(it) for it in settings.instep_admins)


def make_procedures(
    clerk: ClerkClient, noted: Callable[[Conn, Operation], None], clock: Clock, held: Held
) -> Procedures:
    """How each kind of operation is carried out."""
    return {
        **desk.procedures(clerk, noted),
        **MemberProcedures(clerk, clock).all(),
        **profile_procedures(clerk, held, clock),
    }


def list_lost(conn: Conn, organization_id: str) -> list[Lost]:
    """Return the invitations of an organization that got lost, as its list shows them."""
    found = find_lost(conn, organization_id)
    return [Lost(**{name: getattr(it, name) for name in Lost.__struct_fields__}) for it in found]


def make_members(settings: Settings, runner: Runner, clerk: ClerkClient, live: Live, clock: Clock) -> Members:
    """The list of people, and what can be done with members."""
    db = runner.db
    list_people = ListPeople(db=db, directory=clerk, clock=clock, list_lost=list_lost)
    changes = MemberChanges(db, runner, clock, policy=settings.instep_deactivation, told=live.publish)
    return Members(
        list_people=list_people,
        export=Export(list_people),
        changes=changes,
        bulk=Bulk(changes),
        consequences=FindConsequences(db, clerk, clerk),
    )


def make_clerk(settings: Settings, *, pacer: Pacer | None = None) -> ClerkClient:
    """The client of the configured Clerk instance; `pacer` None: at any pace."""
    return ClerkClient(_plain(settings, "clerk_secret_key"), api_url=settings.clerk_api_url, pacer=pacer)


def make_sign_in(settings: Settings, clerk: ClerkClient, clock: Clock) -> Handshake | None:
    """Signing in through Clerk; None where no publishable key is set. Raises BadSettings for a key that is none."""
    key = settings.clerk_publishable_key
    if key is None:
        return None
    try:
        named = frontend_api_of(key)
    except ValueError as error:
        raise BadSettings("CLERK_PUBLISHABLE_KEY: not a publishable key; copy it from Clerk's dashboard.") from error
    frontend = settings.clerk_frontend_api_url or named
    verifier = TokenVerifier(
        keys=Jwks(clerk.fetch_jwks, clock=clock),
        issuers=frozenset({frontend, named}),
        parties=frozenset({origin_of(settings.instep_public_url), *settings.instep_authorized_parties}),
        clock=clock,
    )
    page = settings.clerk_sign_in_url or sign_in_page_of(frontend)
    return Handshake(publishable_key=key, frontend_api=frontend, sign_in_page=page, verifier=verifier)


def cookie_name_of(settings: Settings) -> str:
    """The name of the cookie that carries a console session."""
    return CookieJar(is_secure=settings.instep_public_url.startswith("https://")).name_of(COOKIE)


def make_limiter(settings: Settings) -> RateLimiter | None:
    """How often one principal may ask the API; None: as often as they like."""
    rate = settings.instep_rate_limit
    return None if rate == "off" else RateLimiter(rate=rate, burst=BURST * rate)


def make_operations(services: Services) -> Operations:
    """Reading operations, and ending by hand what could not be finished."""
    return Operations(db=services.db, noted=services.runner.noted, clock=services.clock, told=services.runner.attention)


def make_deliveries(services: Services) -> Deliveries:
    """Reading deliveries, and having them worked once more."""

    def news() -> None:
        services.live.publish([DELIVERIES, ATTENTION])

    return Deliveries(services.db, services.clock, services.worker.wake, news)


def _plain(settings: Settings, name: str) -> str | None:
    held = getattr(settings, name)
    return held.get_secret_value() if held else None


def _opener(settings: Settings) -> Verifier:
    try:
        return Verifier(settings.webhook_secrets)
    except ValueError as error:
        raise BadSettings(f"CLERK_WEBHOOK_SIGNING_SECRET: {error}") from error


def _policy(settings: Settings, sign_in: Handshake | None) -> Policy:
    hosts = (origin_of(sign_in.frontend_api), origin_of(sign_in.sign_in_page)) if sign_in else ()
    return Policy(form_hosts=tuple(dict.fromkeys(hosts)), frame_ancestors=settings.instep_frame_ancestors)


def _key_watch(clock: Clock) -> Callable[[str, str], None]:
    """The log of the break-glass key: every wrong try, and its use once a minute for each address."""
    used: dict[str, int] = {}

    def note(verdict: str, client: str) -> None:
        now = clock()
        if verdict == "right":
            if is_within(used.get(client, -MINUTE), now, MINUTE):
                return
            used.clear()
            used[client] = now
        log.warning("break_glass_key", verdict=verdict, client=client)

    return note


def _noter(clock: Clock) -> Callable[[Conn, Operation], None]:
    """Every operation is in the audit: when it was asked for, and how it ended."""

    def noted(conn: Conn, operation: Operation) -> None:
        entry = Entry(
            actor=operation.actor,
            action=operation.kind,
            target=operation.target,
            outcome=OUTCOMES[operation.state],
            organization_id=operation.organization_id,
            cause=operation.id,
            request_id=operation.request_id,
            origin=operation.origin,
            impersonator=operation.impersonator,
            details={"intent": operation.intent, "reason": operation.reason},
        )
        record(conn, [entry], now=clock())

    return noted


def _attempt_noter(clock: Clock) -> Callable[[Conn, Attempt], None]:
    """Every change that was refused to somebody who acts as another person is in the audit."""

    def noted(conn: Conn, attempt: Attempt) -> None:
        entry = Entry(
            actor=attempt.actor,
            impersonator=attempt.impersonator,
            action=attempt.action,
            target=attempt.target,
            outcome="refused",
            organization_id=attempt.organization_id,
            details={"reason": IMPERSONATION, "policy": attempt.policy},
        )
        record(conn, [entry], now=clock())

    return noted


def _permitter(impersonation: Impersonation) -> Callable[[Asked], Awaitable[None]]:
    async def permit(asked: Asked) -> None:
        place = asked.organization_id
        await impersonation.permit(asked.actor, asked.kind, asked.intent, target=asked.target, organization_id=place)

    return permit


def _key_noter(clock: Clock) -> Callable[[Conn, Principal, str, KeyRow], None]:
    def noted(conn: Conn, by: Principal, what: str, key: KeyRow) -> None:
        details = {"name": key.name, "scopes": key.scopes}
        entry = Entry(
            actor=by.id, action=f"key.{what}", target=key.id, organization_id=key.organization_id, details=details
        )
        record(conn, [entry], now=clock())

    return noted


def _session_noter(clock: Clock) -> Callable[[Conn], None]:
    """Every session that the break-glass key opens is in the audit, with the address that it was opened from."""

    def noted(conn: Conn) -> None:
        entry = Entry(actor=BREAK_GLASS.id, action="session.break_glass", target=BREAK_GLASS.id)
        record(conn, [entry], now=clock())

    return noted


def _teller(live: Live, metrics: Metrics) -> Callable[[Worked], None]:
    def told(worked: Worked) -> None:
        metrics.count(worked)
        live.publish(worked.touched)
        live.publish(worked.touched_in_clerk)
        if worked.outcomes or worked.parked or worked.asks:
            live.publish([DELIVERIES, ATTENTION] if worked.parked else [DELIVERIES])

    return told
