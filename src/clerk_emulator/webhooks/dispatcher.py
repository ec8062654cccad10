"""Dispatch webhooks: turn events into messages, deliver them and retry failures."""

import asyncio
import json
import random
from typing import Any

import httpx2

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import DomainEvent
from clerk_emulator.webhooks import endpoints, retry_schedule, signing
from clerk_emulator.webhooks.delivery_log import DeliveryAttempt, DeliveryLog, WebhookDelivery, WebhookMessage
from clerk_emulator.webhooks.endpoints import WebhookEndpoint
from clerk_emulator.wire.example_payloads import example_payload
from clerk_emulator.wire.fault_injection import Fault, FaultRegistry
from clerk_emulator.wire.omitted_fields import remove_omitted
from clerk_emulator.wire.site_config import SiteConfig
from clerk_emulator.wire.webhook_payloads import event_payload

POLL_SECONDS = 0.25
REORDER_WINDOW_MILLISECONDS = 1_000


class WebhookDispatcher:
    """Carries what happens in an instance to the endpoints."""

    def __init__(self, instance: Instance, site: SiteConfig, faults: FaultRegistry, retry_scale: float = 1.0) -> None:
        self.instance = instance
        self.site = site
        self.faults = faults
        self.retry_scale = retry_scale
        self.log = DeliveryLog()
        self.endpoints: dict[str, WebhookEndpoint] = {}
        self.caller = ("127.0.0.1", "clerk-emulator")
        self.is_silent = False
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._sending: set[str] = set()
        self._held: dict[str, WebhookDelivery] = {}
        self._lines: set[asyncio.Task[None]] = set()
        self._clients: dict[str, httpx2.AsyncClient] = {}

    # What happens

    def hear(self, happening: DomainEvent) -> None:
        """Make a message of something that happened, as it is now, and queue it for each endpoint."""
        if self.is_silent:
            return
        event = event_payload(self.instance, happening, self.site.url, self.caller)
        body = json.dumps(remove_omitted(self.instance.settings, event), ensure_ascii=False, separators=(",", ":"))
        message = WebhookMessage(
            id=self.instance.ids.new("msg"), type=happening.type, body=body, created_at=self.instance.now
        )
        self.log.add_message(message)
        for endpoint in self.endpoints.values():
            if endpoint.wants(message.type):
                self._queue(message, endpoint)
        self._news.set()

    def record_caller(self, address: str, user_agent: str) -> None:
        """Remember who makes what happens next happen."""
        self.caller = (address, user_agent)

    # Endpoints

    def connect(
        self,
        url: str,
        *,
        secret: str | None = None,
        events: list[str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> WebhookEndpoint:
        """Add an endpoint, or replace the one at this address. With a transport (to an ASGI app) no port is needed."""
        wish = {"url": url, "secret": secret, "events": events or []}
        return self.add(endpoints.parse_endpoint(self.instance.ids, wish, transport, self.endpoints.values()))

    def add(self, endpoint: WebhookEndpoint) -> WebhookEndpoint:
        """Add an endpoint; one with the same id or the same address is replaced."""
        for other in [one.id for one in self.endpoints.values() if one.url == endpoint.url and one.id != endpoint.id]:
            self.disconnect(other)
        self.endpoints[endpoint.id] = endpoint
        return endpoint

    def disconnect(self, endpoint_id: str) -> bool:
        """Take an endpoint away; say whether there was one."""
        if self.endpoints.pop(endpoint_id, None) is None:
            return False
        self._held.pop(endpoint_id, None)
        self.log.fail_endpoint_deliveries(endpoint_id)
        return True

    def forget(self) -> None:
        """Forget what was sent and what is on its way."""
        self._held.clear()
        self.log.clear()

    # On the way

    def replay(self, delivery_id: str) -> WebhookDelivery | None:
        """Send the message of a delivery once more, under the same message id."""
        old = self.log.deliveries.get(delivery_id)
        if old is None or old.endpoint_id not in self.endpoints:
            return None
        delivery = self.log.add(old.message, old.endpoint_id, self.instance.now)
        delivery.is_replay = True
        self._news.set()
        return delivery

    def send_again(self, message_id: str) -> list[WebhookDelivery]:
        """Send a message once more to every endpoint that wants it."""
        message = self.log.messages.get(message_id)
        if message is None:
            return []
        wanting = [one for one in self.endpoints.values() if one.wants(message.type)]
        sent = [self.log.add(message, endpoint.id, self.instance.now) for endpoint in wanting]
        for delivery in sent:
            delivery.is_replay = True
        self._news.set()
        return sent

    def send_example(self, endpoint_id: str, type_: str) -> WebhookDelivery:
        """Send the example of a type of event to one endpoint, signed with its secret, as Clerk's dashboard does.

        The endpoint's list of events and faults don't count. KeyError: there is no such endpoint.
        """
        endpoint, now = self.endpoints[endpoint_id], self.instance.now
        body = json.dumps(example_payload(type_), ensure_ascii=False, separators=(",", ":"))
        message = WebhookMessage(id=self.instance.ids.new("msg"), type=type_, body=body, created_at=now)
        self.log.add_message(message)
        delivery = self.log.add(message, endpoint.id, now)
        self._news.set()
        return delivery

    async def drain(self) -> None:
        """Deliver until nothing is due now; what is held back for a successor that never came goes too."""
        while True:
            self._dispatch()
            if self._lines:
                await asyncio.wait(set(self._lines))
                continue
            if not self._held:
                break
            for delivery in list(self._held.values()):
                self._release(delivery)
        if self._task is None:
            await self._close_clients()

    async def start(self) -> None:
        """Let deliveries go by themselves."""
        if self._task is None:
            self._news = asyncio.Event()
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Let them go no more, and close the connections."""
        task, self._task = self._task, None
        running = [*self._lines, *([task] if task else [])]
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._close_clients()

    async def _close_clients(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.aclose()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            self._release_overdue()
            self._dispatch()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass

    def _queue(self, message: WebhookMessage, endpoint: WebhookEndpoint) -> None:
        fault = self.faults.match_event_fault(message.type)
        delivery = self.log.add(message, endpoint.id, self.instance.now)
        if fault is not None:
            delivery.fault = fault.do
        if fault is None and self._apply_random_loss_or_delay(delivery):
            return
        if fault is None or fault.do == "reorder":
            self._reorder(delivery, is_requested=fault is not None)
        else:
            self._apply_delivery_fault(delivery, fault)

    def _apply_random_loss_or_delay(self, delivery: WebhookDelivery) -> bool:
        """Lose a delivery or let it be late, as the settings want it; the same ones whenever the seed is the same."""
        settings = self.instance.settings
        if not settings.webhook_loss_percent and not settings.webhook_delay_seconds:
            return False
        dice = random.Random(f"{settings.webhook_seed}/{delivery.id}")  # noqa: S311 - repeatable by wish
        is_lost = dice.random() * 100 < settings.webhook_loss_percent
        delivery.due_at += round(dice.random() * settings.webhook_delay_seconds * 1000)
        delivery.fault = "lost" if is_lost else "late"
        if is_lost:
            self.log.settle(delivery, "dropped")
        return True

    def _apply_delivery_fault(self, delivery: WebhookDelivery, fault: Fault) -> None:
        if fault.do == "drop":
            self.log.settle(delivery, "dropped")
        elif fault.do == "double":
            self.log.add(delivery.message, delivery.endpoint_id, delivery.due_at).fault = "double"
        elif fault.do == "delay":
            delivery.due_at += fault.delay_ms
        elif fault.do == "bad_signature":
            delivery.bad_signatures = 1

    def _reorder(self, delivery: WebhookDelivery, *, is_requested: bool) -> None:
        """Let a delivery change places with the one that is held back, or hold it back for the next one."""
        held = self._held.pop(delivery.endpoint_id, None)
        if held is not None and held.is_held:
            held.message, delivery.message = delivery.message, held.message
            held.fault, delivery.fault = delivery.fault, held.fault
            self._release(held)
        elif is_requested:
            delivery.is_held = True
            delivery.due_at += REORDER_WINDOW_MILLISECONDS
            self._held[delivery.endpoint_id] = delivery

    def _release(self, delivery: WebhookDelivery) -> None:
        self._held.pop(delivery.endpoint_id, None)
        delivery.is_held = False
        delivery.due_at = self.instance.now

    def _release_overdue(self) -> None:
        now = self.instance.now
        for delivery in list(self._held.values()):
            if delivery.due_at <= now:
                self._release(delivery)

    def _due(self) -> list[WebhookDelivery]:
        now = self.instance.now
        found = [
            delivery
            for delivery in self.log.waiting()
            if delivery.state == "pending"
            and delivery.due_at <= now
            and not delivery.is_held
            and delivery.endpoint_id not in self._sending
        ]
        if self.instance.settings.webhook_delay_seconds:
            found.sort(key=lambda delivery: delivery.due_at)
        return found

    def _dispatch(self) -> None:
        lines: dict[str, list[WebhookDelivery]] = {}
        for delivery in self._due():
            delivery.state = "sending"
            lines.setdefault(delivery.endpoint_id, []).append(delivery)
        for endpoint_id, line in lines.items():
            self._sending.add(endpoint_id)
            task = asyncio.create_task(self._deliver_batch(endpoint_id, line))
            self._lines.add(task)
            task.add_done_callback(self._lines.discard)

    async def _deliver_batch(self, endpoint_id: str, line: list[WebhookDelivery]) -> None:
        try:
            for delivery in line:
                if self.log.has(delivery):  # else everything was reset meanwhile
                    await self._deliver(delivery)
        finally:
            self._sending.discard(endpoint_id)
            for delivery in line:
                if delivery.state == "sending":
                    delivery.state = "pending"
            self._news.set()

    async def _deliver(self, delivery: WebhookDelivery) -> None:
        endpoint = self.endpoints.get(delivery.endpoint_id)
        if endpoint is None:
            self.log.settle(delivery, "failed")
            return
        attempt, is_final = await self._attempt(delivery, endpoint)
        delivery.attempts.append(attempt)
        if attempt.status is not None and 200 <= attempt.status < 300:
            self.log.settle(delivery, "succeeded")
            return
        wait = retry_schedule.retry_delay(len(delivery.attempts), self.retry_scale)
        if wait is None or is_final:
            self.log.settle(delivery, "failed")
        else:
            delivery.state, delivery.due_at = "pending", self.instance.now + wait
            self.log.revision += 1

    async def _attempt(self, delivery: WebhookDelivery, endpoint: WebhookEndpoint) -> tuple[DeliveryAttempt, bool]:
        secret = endpoint.secret
        if delivery.bad_signatures:
            delivery.bad_signatures -= 1
            secret = signing.new_secret()
        message, seconds = delivery.message, self.instance.clock.wall() // 1000
        prefix = "svix" if self.instance.settings.webhook_headers == "svix" else "webhook"
        headers = signing.build_headers(secret, message.id, seconds, message.body, prefix)
        try:
            async with asyncio.timeout(retry_schedule.TIMEOUT_SECONDS):
                response = await self._client(endpoint).post(
                    endpoint.url, content=message.body.encode(), headers=headers
                )
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError) as error:
            return DeliveryAttempt(at=self.instance.now, error=type(error).__name__), False
        is_final = response.headers.get("webhook-delivery") == "abort-message"
        return DeliveryAttempt(at=self.instance.now, status=response.status_code), is_final

    def _client(self, endpoint: WebhookEndpoint) -> httpx2.AsyncClient:
        client = self._clients.get(endpoint.id)
        if client is None:
            client = httpx2.AsyncClient(
                transport=endpoint.transport, timeout=retry_schedule.TIMEOUT_SECONDS, trust_env=False
            )
            self._clients[endpoint.id] = client
        return client

    def dump(self) -> dict[str, Any]:
        """Return the endpoints, and what is on its way to them, as JSON, to be kept."""
        kept = {one.id: one.describe() for one in self.endpoints.values() if one.transport is None}
        waiting = [row for row in self.log.dump_pending() if row["endpoint_id"] in kept]
        return {"endpoints": list(kept.values()), "waiting": waiting}

    def load(self, data: dict[str, Any]) -> None:
        """Take back what `dump()` returned."""
        for wish in data.get("endpoints", []):
            self.add(endpoints.parse_endpoint(self.instance.ids, wish))
        self.log.load_pending(data.get("waiting", []))
