"""Composition root: build all services from the settings."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from instep.app.config import Settings, SettingsError
from instep.app.database import find_due_times, make_clerk_rate_limiter, make_db
from instep.app.metrics import Metrics
from instep.app.scheduler import ExpiredDataCleanup
from instep.app.sync_services import SyncServices, make_sync_services
from instep.app.worker import OPERATION_DEFERRED_TOPIC, ClockRollbackMonitor, Worker
from instep.audit.repository import NewAuditEntry, record_entries
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
from instep.invitations import workflows
from instep.invitations.application_service import ApplicationInvitationService
from instep.invitations.bulk_service import BulkInvitationService
from instep.invitations.repository import list_lost_invitations
from instep.invitations.service import InvitationService
from instep.members.service import MemberService
from instep.members.workflows import MemberWorkflows
from instep.operations.executor import OperationExecutor
from instep.operations.service import OperationService
from instep.operations.workflow import Operation, OperationRequest, Workflows
from instep.users import context
from instep.users.service import UserService, make_user_service, make_user_workflows
from instep.users.workflows import EphemeralSecrets
from instep.webhooks.processor import DeliveryProcessor, ProcessingResult
from instep.webhooks.receiver import WebhookReceiver
from instep.webhooks.refetch import SignedInUserFetcher
from instep.webhooks.service import DELIVERIES_TOPIC as DELIVERIES
from instep.webhooks.service import DeliveryService

log = structlog.get_logger(__name__)
RATE_LIMIT_BURST_SECONDS = 3  # requests of this many seconds may come at once
AUDIT_OUTCOMES = {
    "open": "asked",
    "settled": "done",
    "refused": "refused",
    "attention": "attention",
    "given_up": "given up",
}


@dataclass(frozen=True)
class Services:
    """All services of one process."""

    settings: Settings
    db: Database
    clerk: ClerkClient
    clock: Clock
    pubsub: PubSub
    relay: PostgresRelay | None
    metrics: Metrics
    delivery_processor: DeliveryProcessor
    worker: Worker
    receiver: WebhookReceiver
    authenticator: Authenticator
    rate_limiter: PrincipalRateLimiter | None
    api_keys: ApiKeyService
    members: MemberService
    users: UserService
    executor: OperationExecutor
    invitations: InvitationService
    bulk_invitations: BulkInvitationService
    application_invitations: ApplicationInvitationService
    pages: PageRenderer
    sign_in_pages: SignInPages
    sync_services: SyncServices

    def start(self, *, has_worker: bool) -> None:
        """Start the background tasks on the running event loop."""
        if self.relay is not None:
            self.relay.start()
        if has_worker:
            self.worker.start()

    async def stop(self) -> None:
        """Stop the background tasks. Idempotent."""
        await self.worker.stop()
        if self.relay is not None:
            await self.relay.stop()

    async def close(self) -> None:
        """Stop the background tasks and close all connections."""
        await self.stop()
        await self.clerk.close()
        self.db.close()


def make_services(settings: Settings, *, clerk: ClerkClient | None = None, clock: Clock = system_now) -> Services:
    """Build all services. `clerk` replaces the real client in tests. Raises SettingsError."""
    db = make_db(settings)
    pubsub, metrics = PubSub(), Metrics()
    clerk = clerk or make_clerk(settings, pacer=_make_pacer(settings, metrics))
    sync_services = make_sync_services(settings, db, clerk, clock, pubsub.publish)
    secrets = EphemeralSecrets()
    impersonation = ImpersonationGuard(
        db=db, clock=clock, policy=settings.instep_impersonation, record_audit=_make_attempt_auditor(clock)
    )
    workflows_by_kind = make_workflows(clerk, _make_operation_auditor(clock), clock, secrets)
    executor = make_executor(db, workflows_by_kind, pubsub, clock, impersonation)
    relay = make_relay(settings, db, pubsub)
    processor = make_delivery_processor(db, clerk, clock, sync_services, _make_delivery_publisher(pubsub, metrics))
    worker = make_worker(processor, executor, pubsub, sync_services, relay)
    url, admins = settings.instep_public_url, parse_instance_admins(settings)
    sign_in = make_sign_in(settings, clerk, clock)
    api_keys = ApiKeyService(db=db, record_audit=_make_key_auditor(clock), clock=clock)
    user_fetcher = SignedInUserFetcher(db=db, clerk=clerk, on_change=pubsub.publish, clock=clock)
    authenticator = make_authenticator(settings, clerk, user_fetcher, sign_in, api_keys, impersonation)
    pages = make_page_renderer(settings, sign_in, clock)
    return Services(
        settings=settings,
        db=db,
        clerk=clerk,
        clock=clock,
        pubsub=pubsub,
        relay=relay,
        metrics=metrics,
        delivery_processor=processor,
        worker=worker,
        receiver=WebhookReceiver(db=db, verifier=_make_webhook_verifier(settings), clock=clock, wake=worker.wake),
        authenticator=authenticator,
        rate_limiter=make_api_rate_limiter(settings),
        api_keys=api_keys,
        members=make_members(settings, executor, clerk, pubsub, clock),
        users=make_users(settings, executor, clerk, pubsub, secrets),
        executor=executor,
        invitations=InvitationService(db, executor, clerk, clerk, url, admins, clock),
        bulk_invitations=BulkInvitationService(db, executor, clerk, url, clock),
        application_invitations=ApplicationInvitationService(db, executor, clerk, url, clock),
        pages=pages,
        sign_in_pages=make_sign_in_pages(settings, pages, authenticator, sign_in),
        sync_services=sync_services,
    )


def make_relay(settings: Settings, db: Database, pubsub: PubSub) -> PostgresRelay | None:
    """Create the relay that exchanges notifications with other processes; None on SQLite."""
    if db.is_sqlite:
        return None
    return PostgresRelay(db, pubsub, listen_url=_get_secret_value(settings, "instep_database_listen_url"))


def make_delivery_processor(
    db: Database,
    clerk: ClerkClient,
    clock: Clock,
    sync_services: SyncServices,
    publish: Callable[[ProcessingResult], None],
) -> DeliveryProcessor:
    """Create the processor of webhook deliveries."""
    return DeliveryProcessor(
        db=db,
        clerk=clerk,
        parse=parsing.parse_webhook,
        on_change=publish,
        clock=clock,
        read_roles=sync_services.role_reader.read,
    )


def make_users(
    settings: Settings, executor: OperationExecutor, clerk: ClerkClient, pubsub: PubSub, secrets: EphemeralSecrets
) -> UserService:
    """Create the user service."""
    admins = parse_instance_admins(settings)
    return make_user_service(
        context.UserCommandContext(executor.db, executor, admins, pubsub.publish, executor.clock),
        secrets,
        clerk,
        policy=settings.instep_email_change,
        redirect_url=settings.instep_public_url,
    )


def make_page_renderer(settings: Settings, sign_in: ClerkHandshake | None, clock: Clock) -> PageRenderer:
    """Create the renderer of the console pages."""
    policy = _make_security_policy(settings, sign_in)
    return create_page_renderer(public_url=settings.instep_public_url, policy=policy, clock=clock)


def make_sign_in_pages(
    settings: Settings, pages: PageRenderer, authenticator: Authenticator, sign_in: ClerkHandshake | None
) -> SignInPages:
    """Create the sign-in pages."""
    sessions, break_glass = authenticator.sessions, authenticator.break_glass
    return SignInPages(pages, authenticator, sessions, break_glass, sign_in, settings.instep_public_url)


def make_executor(
    db: Database, workflows_by_kind: Workflows, pubsub: PubSub, clock: Clock, impersonation: ImpersonationGuard
) -> OperationExecutor:
    """Create the operation executor, which notifies open pages and workers of pending operations."""
    return OperationExecutor(
        db=db,
        workflows=workflows_by_kind,
        record_audit=_make_operation_auditor(clock),
        clock=clock,
        on_attention=lambda: pubsub.publish([ATTENTION]),
        on_deferred=lambda: pubsub.publish([OPERATION_DEFERRED_TOPIC]),
        check_impersonation=_make_permission_check(impersonation),
        scheduled_kinds=workflows.SCHEDULED_KINDS,
    )


def make_worker(
    processor: DeliveryProcessor,
    executor: OperationExecutor,
    pubsub: PubSub,
    sync_services: SyncServices,
    relay: PostgresRelay | None,
) -> Worker:
    """Create the background worker of one process, not started."""
    db = executor.db
    worker = Worker(
        processor,
        executor,
        pubsub,
        (*sync_services.periodic_tasks(), ExpiredDataCleanup(db, executor.clock).make_task()),
        sync_services.run_queue.run_once,
        find_due_times=lambda: db.read(find_due_times),
        is_fully_subscribed=lambda: relay is not None and relay.is_listening.is_set(),
        clock=executor.clock,
    )
    worker.clock_monitor = ClockRollbackMonitor(
        processor.clock, (processor.clamp_due_times, executor.clamp_due_times), worker.wake
    )
    return worker


def make_authenticator(
    settings: Settings,
    source: SessionsApi,
    user_fetcher: SignedInUserFetcher,
    sign_in: ClerkHandshake | None,
    api_keys: ApiKeyService,
    impersonation: ImpersonationGuard,
) -> Authenticator:
    """Create the authenticator of requests."""
    db, clock = impersonation.db, impersonation.clock
    break_glass = BreakGlassKey(
        key=_get_secret_value(settings, "instep_admin_key"), on_use=_make_break_glass_log(clock)
    )
    sessions = SessionService(
        db=db,
        sessions_api=source,
        break_glass=break_glass,
        admins=parse_instance_admins(settings),
        clock=clock,
        import_user=user_fetcher.fetch,
        record_audit=_make_session_auditor(clock),
    )
    return Authenticator(
        db=db,
        sessions=sessions,
        break_glass=break_glass,
        sign_in=sign_in,
        keys=api_keys,
        on_failure=AuthenticationFailureLog(log.warning, clock).note,
        impersonation=impersonation,
        cookie=get_session_cookie_name(settings),
    )


def parse_instance_admins(settings: Settings) -> frozenset[str]:
    """Return the Clerk ids and canonical emails of the instance admins in the settings."""
    return frozenset(it if it.startswith("user_") else canonicalize_email(it) for it in settings.instep_admins)


def make_workflows(
    clerk: ClerkClient, record_audit: Callable[[Conn, Operation], None], clock: Clock, secrets: EphemeralSecrets
) -> Workflows:
    """Return the workflows by kind of operation."""
    return {
        **workflows.make_invitation_workflows(clerk, clerk, clerk, record_audit),
        **MemberWorkflows(clerk, clock).get_workflows(),
        **make_user_workflows(clerk, secrets, clock),
    }


def make_members(
    settings: Settings, executor: OperationExecutor, clerk: ClerkClient, pubsub: PubSub, clock: Clock
) -> MemberService:
    """Create the member service."""
    return MemberService(
        executor.db,
        clerk,
        executor,
        clock,
        deactivation_policy=settings.instep_deactivation,
        on_change=pubsub.publish,
        list_lost=list_lost_invitations,
    )


def make_clerk(settings: Settings, *, pacer: ClerkRateLimiter | None = None) -> ClerkClient:
    """Create the client of the configured Clerk instance; `pacer` None: without a rate limit."""
    return ClerkClient(
        _get_secret_value(settings, "clerk_secret_key"), api_url=settings.clerk_api_url, rate_limiter=pacer
    )


def make_sign_in(settings: Settings, clerk: ClerkClient, clock: Clock) -> ClerkHandshake | None:
    """Create the sign-in through Clerk; None without a publishable key. Raises SettingsError for an invalid key."""
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
    """Return the name of the console's session cookie."""
    return CookieJar(is_secure=settings.instep_public_url.startswith("https://")).get_name(SESSION_COOKIE)


def make_api_rate_limiter(settings: Settings) -> PrincipalRateLimiter | None:
    """Create the rate limiter of API principals; None: unlimited."""
    rate = settings.instep_rate_limit
    return None if rate == "off" else PrincipalRateLimiter(rate=rate, burst=RATE_LIMIT_BURST_SECONDS * rate)


def make_operations(services: Services) -> OperationService:
    """Create the service that lists operations, and retries or abandons those that need attention."""
    return OperationService(
        db=services.db,
        record_audit=services.executor.record_audit,
        clock=services.clock,
        on_change=services.executor.on_attention,
    )


def make_deliveries(services: Services) -> DeliveryService:
    """Create the service that lists and replays deliveries."""

    def publish() -> None:
        services.pubsub.publish([DELIVERIES, ATTENTION])

    return DeliveryService(services.db, services.clock, services.worker.wake, publish)


def _make_pacer(settings: Settings, metrics: Metrics) -> ClerkRateLimiter | None:
    wait, limited = metrics.clerk_wait_seconds, metrics.clerk_rate_limited
    return make_clerk_rate_limiter(settings, on_wait=wait.inc, on_limited=limited.inc)


def _get_secret_value(settings: Settings, name: str) -> str | None:
    secret = getattr(settings, name)
    return secret.get_secret_value() if secret else None


def _make_webhook_verifier(settings: Settings) -> WebhookVerifier:
    try:
        return WebhookVerifier(settings.webhook_secrets)
    except ValueError as error:
        raise SettingsError(f"CLERK_WEBHOOK_SIGNING_SECRET: {error}") from error


def _make_security_policy(settings: Settings, sign_in: ClerkHandshake | None) -> SecurityHeaders:
    hosts = (normalize_origin(sign_in.frontend_api), normalize_origin(sign_in.sign_in_page)) if sign_in else ()
    return SecurityHeaders(
        form_hosts=tuple(dict.fromkeys(hosts)),
        image_hosts=("https://img.clerk.com",),
        frame_ancestors=settings.instep_frame_ancestors,
    )


def _make_break_glass_log(clock: Clock) -> Callable[[str, str], None]:
    """Create the log of the break-glass key: every wrong attempt, and its use once a minute per address."""
    used: dict[str, int] = {}

    def log_attempt(verdict: str, client: str) -> None:
        now = clock()
        if verdict == "right":
            if is_recent(used.get(client, -MINUTE), now, MINUTE):
                return
            used.clear()
            used[client] = now
        log.warning("break_glass_key", verdict=verdict, client=client)

    return log_attempt


def _make_operation_auditor(clock: Clock) -> Callable[[Conn, Operation], None]:
    """Create the auditor of operations: their start and their outcome."""

    def record(conn: Conn, operation: Operation) -> None:
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

    return record


def _make_attempt_auditor(clock: Clock) -> Callable[[Conn, ImpersonationAttempt], None]:
    """Create the auditor of changes that were refused during impersonation."""

    def record(conn: Conn, attempt: ImpersonationAttempt) -> None:
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

    return record


def _make_permission_check(impersonation: ImpersonationGuard) -> Callable[[OperationRequest], Awaitable[None]]:
    async def permit(request: OperationRequest) -> None:
        await impersonation.check_operation(
            request.actor,
            request.kind,
            request.intent,
            target=request.target,
            organization_id=request.organization_id,
        )

    return permit


def _make_key_auditor(clock: Clock) -> Callable[[Conn, Principal, str, ApiKeyRow], None]:
    def record(conn: Conn, principal: Principal, verb: str, key: ApiKeyRow) -> None:
        details = {"name": key.name, "scopes": key.scopes}
        entry = NewAuditEntry(
            actor=principal.id,
            action=f"key.{verb}",
            target=key.id,
            organization_id=key.organization_id,
            details=details,
        )
        record_entries(conn, [entry], now=clock())

    return record


def _make_session_auditor(clock: Clock) -> Callable[[Conn], None]:
    """Create the auditor of sessions opened with the break-glass key, with their address."""

    def record(conn: Conn) -> None:
        entry = NewAuditEntry(
            actor=BREAK_GLASS_PRINCIPAL.id, action="session.break_glass", target=BREAK_GLASS_PRINCIPAL.id
        )
        record_entries(conn, [entry], now=clock())

    return record


def _make_delivery_publisher(pubsub: PubSub, metrics: Metrics) -> Callable[[ProcessingResult], None]:
    def publish(result: ProcessingResult) -> None:
        metrics.count(result)
        pubsub.publish(result.touched)
        pubsub.publish(result.touched_organization_clerk_ids)
        if result.outcomes or result.failed or result.refetch_requests:
            pubsub.publish([DELIVERIES, ATTENTION] if result.failed else [DELIVERIES])

    return publish
