"""Composition root: build all services from the settings."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from instep.app.config import Settings, SettingsError
from instep.app.database import make_clerk_rate_limiter, make_db
from instep.app.metrics import Metrics
from instep.app.scheduler import Scheduler, make_scheduled_jobs
from instep.app.sync_services import SyncServices, make_sync_services
from instep.app.worker import OPERATION_DEFERRED_TOPIC, ClockRollbackMonitor, Worker, find_due_times
from instep.audit.entries import NewAuditEntry
from instep.audit.repository import record_entries
from instep.auth.api_keys import ApiKeyService
from instep.auth.authenticator import SESSION_COOKIE, AuthenticationFailureLog, Authenticator
from instep.auth.break_glass import BreakGlassKey
from instep.auth.impersonation import IMPERSONATION_CODE as IMPERSONATION
from instep.auth.impersonation import ImpersonationAttempt, ImpersonationGuard
from instep.auth.principal import BREAK_GLASS_PRINCIPAL, Principal
from instep.auth.rate_limits import PrincipalRateLimiter
from instep.auth.repository import ApiKeyRow
from instep.auth.sessions import SessionsApi, SessionService
from instep.auth.sign_in_redirects import CookieJar
from instep.clerk import parsing
from instep.clerk.client import ClerkClient
from instep.clerk.handshake import ClerkHandshake, derive_frontend_api_url, derive_sign_in_page_url
from instep.clerk.jwks import JwksKeySource
from instep.clerk.rate_limiter import ClerkRateLimiter
from instep.clerk.session_tokens import SessionTokenVerifier as TokenVerifier
from instep.clerk.webhook_signature import WebhookVerifier
from instep.console.attention_pages import ATTENTION_TOPIC as ATTENTION
from instep.console.sign_in_pages import SignInPages
from instep.core.clock import MINUTE, Clock, is_recent
from instep.core.clock import now as system_now
from instep.core.db import Conn, Database
from instep.core.http import SecurityHeaders, normalize_origin
from instep.core.pubsub import PostgresRelay, PubSub
from instep.core.templates import PageRenderer, create_page_renderer
from instep.domain.emails import canonicalize_email
from instep.invitations import service, workflows
from instep.invitations.repository import list_lost_invitations
from instep.invitations.service import InvitationSender
from instep.members.service import MemberService
from instep.members.workflows import MemberWorkflows
from instep.operations.executor import OperationExecutor
from instep.operations.service import OperationService
from instep.operations.workflow import Operation, OperationRequest, Workflows
from instep.users import context
from instep.users.service import UserService, make_user_service
from instep.users.service import make_user_workflows as profile_procedures
from instep.users.workflows import EphemeralSecrets
from instep.webhooks.processor import DeliveryProcessor, ProcessingResult
from instep.webhooks.receiver import WebhookReceiver
from instep.webhooks.refetch import SignedInUserFetcher
from instep.webhooks.service import DELIVERIES_TOPIC as DELIVERIES
from instep.webhooks.service import DeliveryService

log = structlog.get_logger(__name__)
RATE_LIMIT_BURST_SECONDS = 3  # seconds' worth of requests that may come at once
AUDIT_OUTCOMES = {
    "open": "asked",
    "settled": "done",
    "refused": "refused",
    "attention": "attention",
    "given_up": "given up",
}


@dataclass(frozen=True)
class Services:
    """Everything one process serves with."""

    settings: Settings
    db: Database
    clerk: ClerkClient
    clock: Clock
    live: PubSub
    relay: PostgresRelay | None
    metrics: Metrics
    work: DeliveryProcessor
    worker: Worker
    timer: Scheduler
    receiver: WebhookReceiver
    gate: Authenticator
    limiter: PrincipalRateLimiter | None
    keys: ApiKeyService
    members: MemberService
    profiles: UserService
    runner: OperationExecutor
    invite: InvitationSender
    invitations: service.InvitationService
    pages: PageRenderer
    sign_in_pages: SignInPages
    syncing: SyncServices

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
    """Put everything together. `clerk` stands in for the real client in tests. Raises SettingsError."""
    db = make_db(settings)
    live, metrics = PubSub(), Metrics()
    clerk = clerk or make_clerk(
        settings,
        pacer=make_clerk_rate_limiter(settings, on_wait=metrics.clerk_wait.inc, limited=metrics.clerk_limited.inc),
    )
    syncing = make_sync_services(settings, db, clerk, clock, live.publish)
    told = _make_delivery_publisher(live, metrics)
    work = DeliveryProcessor(
        db=db, directory=clerk, read=parsing.parse_webhook, told=told, clock=clock, read_roles=syncing.roles.read
    )
    held = EphemeralSecrets()
    procedures = make_workflows(clerk, _make_operation_auditor(clock), clock, held)
    impersonation = ImpersonationGuard(
        db=db, clock=clock, policy=settings.instep_impersonation, record_audit=_make_attempt_auditor(clock)
    )
    runner = make_executor(db, procedures, live, clock, impersonation)
    relay = (
        None
        if db.is_sqlite
        else PostgresRelay(db, live, listen_url=_get_secret_value(settings, "instep_database_listen_url"))
    )
    worker = make_worker(work, runner, live, syncing, relay)
    url = settings.instep_public_url
    invitations = service.make_invitation_service(
        db, runner, clerk, redirect_url=url, clock=clock, admins=parse_instance_admins(settings)
    )
    sign_in = make_sign_in(settings, clerk, clock)
    keys = ApiKeyService(db=db, record_audit=_make_key_auditor(clock), clock=clock)
    arrival = SignedInUserFetcher(db=db, directory=clerk, told=live.publish, clock=clock)
    gate = make_gate(settings, clerk, arrival, sign_in, keys, impersonation)
    pages = create_page_renderer(
        public_url=settings.instep_public_url, policy=_make_security_policy(settings, sign_in), clock=clock
    )
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
        timer=Scheduler(db, make_scheduled_jobs(db, clock, syncing)),
        receiver=WebhookReceiver(db=db, verifier=_make_webhook_verifier(settings), clock=clock, wake=worker.wake),
        gate=gate,
        limiter=make_api_rate_limiter(settings),
        keys=keys,
        members=make_members(settings, runner, clerk, live, clock),
        profiles=make_user_service(
            context.UserCommandContext(db, runner, parse_instance_admins(settings), live.publish, clock),
            held,
            clerk,
            policy=settings.instep_email_change,
            redirect_url=url,
        ),
        runner=runner,
        invite=invitations.invite,
        invitations=invitations,
        pages=pages,
        sign_in_pages=SignInPages(pages, gate, gate.sessions, gate.break_glass, sign_in, url),
        syncing=syncing,
    )


def make_executor(
    db: Database, procedures: Workflows, live: PubSub, clock: Clock, impersonation: ImpersonationGuard
) -> OperationExecutor:
    """Return what carries operations out, and tells open pages and workers of those that wait."""
    return OperationExecutor(
        db=db,
        procedures=procedures,
        record_audit=_make_operation_auditor(clock),
        clock=clock,
        attention=lambda: live.publish([ATTENTION]),
        on_deferred=lambda: live.publish([OPERATION_DEFERRED_TOPIC]),
        permit=_make_permission_check(impersonation),
        scheduled_kinds=workflows.SCHEDULED_KINDS,
    )


def make_worker(
    work: DeliveryProcessor, runner: OperationExecutor, live: PubSub, syncing: SyncServices, relay: PostgresRelay | None
) -> Worker:
    """Return the background work of one process, not started."""
    db = runner.db
    worker = Worker(
        work,
        runner,
        live,
        syncing.periodic_tasks(),
        syncing.asked.run_once,
        due_times=lambda: db.read(find_due_times),
        is_fully_subscribed=lambda: relay is not None and relay.is_listening.is_set(),
        clock=runner.clock,
    )
    worker.watch = ClockRollbackMonitor(work.clock, (work.clamp_due_times, runner.clamp_due_times), worker.wake)
    return worker


def make_gate(
    settings: Settings,
    source: SessionsApi,
    arrival: SignedInUserFetcher,
    sign_in: ClerkHandshake | None,
    keys: ApiKeyService,
    impersonation: ImpersonationGuard,
) -> Authenticator:
    """Build what every route asks first: who sends a request, and what they may do."""
    db, clock = impersonation.db, impersonation.clock
    break_glass = BreakGlassKey(
        key=_get_secret_value(settings, "instep_admin_key"), on_use=_make_break_glass_log(clock)
    )
    sessions = SessionService(
        db=db,
        source=source,
        break_glass=break_glass,
        admins=parse_instance_admins(settings),
        clock=clock,
        import_user=arrival,
        record_audit=_make_session_auditor(clock),
    )
    return Authenticator(
        db=db,
        sessions=sessions,
        break_glass=break_glass,
        sign_in=sign_in,
        keys=keys,
        refused=AuthenticationFailureLog(log.warning, clock).note,
        impersonation=impersonation,
        cookie=get_session_cookie_name(settings),
    )


def parse_instance_admins(settings: Settings) -> frozenset[str]:
    """Return the Clerk ids and canonical addresses of instance admins that the settings name."""
    return frozenset(it if it.startswith("user_") else canonicalize_email(it) for it in settings.instep_admins)


def make_workflows(
    clerk: ClerkClient, record_audit: Callable[[Conn, Operation], None], clock: Clock, held: EphemeralSecrets
) -> Workflows:
    """How each kind of operation is carried out."""
    return {
        **workflows.make_invitation_workflows(clerk, record_audit),
        **MemberWorkflows(clerk, clock).get_workflows(),
        **profile_procedures(clerk, held, clock),
    }


def make_members(
    settings: Settings, runner: OperationExecutor, clerk: ClerkClient, live: PubSub, clock: Clock
) -> MemberService:
    """Build the service of members."""
    return MemberService(
        runner.db,
        clerk,
        runner,
        clock,
        deactivation_policy=settings.instep_deactivation,
        on_change=live.publish,
        list_lost=list_lost_invitations,
    )


def make_clerk(settings: Settings, *, pacer: ClerkRateLimiter | None = None) -> ClerkClient:
    """The client of the configured Clerk instance; `pacer` None: at any pace."""
    return ClerkClient(_get_secret_value(settings, "clerk_secret_key"), api_url=settings.clerk_api_url, pacer=pacer)


def make_sign_in(settings: Settings, clerk: ClerkClient, clock: Clock) -> ClerkHandshake | None:
    """Signing in through Clerk; None where no publishable key is set. Raises SettingsError for a key that is none."""
    key = settings.clerk_publishable_key
    if key is None:
        return None
    try:
        named = derive_frontend_api_url(key)
    except ValueError as error:
        raise SettingsError("CLERK_PUBLISHABLE_KEY: not a publishable key; copy it from Clerk's dashboard.") from error
    frontend = settings.clerk_frontend_api_url or named
    verifier = TokenVerifier(
        keys=JwksKeySource(clerk.fetch_jwks, clock=clock),
        issuers=frozenset({frontend, named}),
        authorized_parties=frozenset(
            {normalize_origin(settings.instep_public_url), *settings.instep_authorized_parties}
        ),
        clock=clock,
    )
    page = settings.clerk_sign_in_url or derive_sign_in_page_url(frontend)
    return ClerkHandshake(publishable_key=key, frontend_api=frontend, sign_in_page=page, verifier=verifier)


def get_session_cookie_name(settings: Settings) -> str:
    """The name of the cookie that carries a console session."""
    return CookieJar(is_secure=settings.instep_public_url.startswith("https://")).name_of(SESSION_COOKIE)


def make_api_rate_limiter(settings: Settings) -> PrincipalRateLimiter | None:
    """How often one principal may ask the API; None: as often as they like."""
    rate = settings.instep_rate_limit
    return None if rate == "off" else PrincipalRateLimiter(rate=rate, burst=RATE_LIMIT_BURST_SECONDS * rate)


def make_operations(services: Services) -> OperationService:
    """Reading operations, and ending by hand what could not be finished."""
    return OperationService(
        db=services.db, record_audit=services.runner.record_audit, clock=services.clock, told=services.runner.attention
    )


def make_deliveries(services: Services) -> DeliveryService:
    """Reading deliveries, and having them worked once more."""

    def news() -> None:
        services.live.publish([DELIVERIES, ATTENTION])

    return DeliveryService(services.db, services.clock, services.worker.wake, news)


def _get_secret_value(settings: Settings, name: str) -> str | None:
    held = getattr(settings, name)
    return held.get_secret_value() if held else None


def _make_webhook_verifier(settings: Settings) -> WebhookVerifier:
    try:
        return WebhookVerifier(settings.webhook_secrets)
    except ValueError as error:
        raise SettingsError(f"CLERK_WEBHOOK_SIGNING_SECRET: {error}") from error


def _make_security_policy(settings: Settings, sign_in: ClerkHandshake | None) -> SecurityHeaders:
    hosts = (normalize_origin(sign_in.frontend_api), normalize_origin(sign_in.sign_in_page)) if sign_in else ()
    return SecurityHeaders(form_hosts=tuple(dict.fromkeys(hosts)), frame_ancestors=settings.instep_frame_ancestors)


def _make_break_glass_log(clock: Clock) -> Callable[[str, str], None]:
    """The log of the break-glass key: every wrong try, and its use once a minute for each address."""
    used: dict[str, int] = {}

    def note(verdict: str, client: str) -> None:
        now = clock()
        if verdict == "right":
            if is_recent(used.get(client, -MINUTE), now, MINUTE):
                return
            used.clear()
            used[client] = now
        log.warning("break_glass_key", verdict=verdict, client=client)

    return note


def _make_operation_auditor(clock: Clock) -> Callable[[Conn, Operation], None]:
    """Every operation is in the audit: when it was asked for, and how it ended."""

    def noted(conn: Conn, operation: Operation) -> None:
        entry = NewAuditEntry(
            actor=operation.actor,
            action=operation.kind,
            target=operation.target,
            outcome=AUDIT_OUTCOMES[operation.state],
            organization_id=operation.organization_id,
            cause=operation.id,
            request_id=operation.request_id,
            origin=operation.origin,
            impersonator=operation.impersonator,
            details={"intent": operation.intent, "reason": operation.reason},
        )
        record_entries(conn, [entry], now=clock())

    return noted


def _make_attempt_auditor(clock: Clock) -> Callable[[Conn, ImpersonationAttempt], None]:
    """Every change that was refused to somebody who acts as another person is in the audit."""

    def noted(conn: Conn, attempt: ImpersonationAttempt) -> None:
        entry = NewAuditEntry(
            actor=attempt.actor,
            impersonator=attempt.impersonator,
            action=attempt.action,
            target=attempt.target,
            outcome="refused",
            organization_id=attempt.organization_id,
            details={"reason": IMPERSONATION, "policy": attempt.policy},
        )
        record_entries(conn, [entry], now=clock())

    return noted


def _make_permission_check(impersonation: ImpersonationGuard) -> Callable[[OperationRequest], Awaitable[None]]:
    async def permit(asked: OperationRequest) -> None:
        place = asked.organization_id
        await impersonation.permit(asked.actor, asked.kind, asked.intent, target=asked.target, organization_id=place)

    return permit


def _make_key_auditor(clock: Clock) -> Callable[[Conn, Principal, str, ApiKeyRow], None]:
    def noted(conn: Conn, by: Principal, what: str, key: ApiKeyRow) -> None:
        details = {"name": key.name, "scopes": key.scopes}
        entry = NewAuditEntry(
            actor=by.id, action=f"key.{what}", target=key.id, organization_id=key.organization_id, details=details
        )
        record_entries(conn, [entry], now=clock())

    return noted


def _make_session_auditor(clock: Clock) -> Callable[[Conn], None]:
    """Every session that the break-glass key opens is in the audit, with the address that it was opened from."""

    def noted(conn: Conn) -> None:
        entry = NewAuditEntry(
            actor=BREAK_GLASS_PRINCIPAL.id, action="session.break_glass", target=BREAK_GLASS_PRINCIPAL.id
        )
        record_entries(conn, [entry], now=clock())

    return noted


def _make_delivery_publisher(live: PubSub, metrics: Metrics) -> Callable[[ProcessingResult], None]:
    def told(worked: ProcessingResult) -> None:
        metrics.count(worked)
        live.publish(worked.touched)
        live.publish(worked.touched_organization_clerk_ids)
        if worked.outcomes or worked.parked or worked.asks:
            live.publish([DELIVERIES, ATTENTION] if worked.parked else [DELIVERIES])

    return told
