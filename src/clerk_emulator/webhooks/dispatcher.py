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
    """Deliver the events of an instance to its endpoints."""

    def __init__(self, instance: Instance, site: SiteConfig, faults: FaultRegistry, retry_scale: float = 1.0) -> None:
        self.instance = instance
        self.site = site
        self.faults = faults
        self.retry_scale = retry_scale
        self.log = DeliveryLog()
        self.endpoints: dict[str, WebhookEndpoint] = {}
        self.caller = ("127.0.0.1", "clerk-emulator")
        self.is_muted = False
        self._task: asyncio.Task[None] | None = None
        self._wake_up = asyncio.Event()
        self._sending: set[str] = set()
        self._postponed: dict[str, WebhookDelivery] = {}
        self._batch_tasks: set[asyncio.Task[None]] = set()
        self._clients: dict[str, httpx2.AsyncClient] = {}

    # Events

    def handle_event(self, domain_event: DomainEvent) -> None:
        """Serialize an event in its current state and queue it for each endpoint."""
        if self.is_muted:
            return
        event = event_payload(self.instance, domain_event, self.site.url, self.caller)
        body = json.dumps(remove_omitted(self.instance.settings, event), ensure_ascii=False, separators=(",", ":"))
        message = WebhookMessage(
            id=self.instance.ids.new("msg"), type=domain_event.type, body=body, created_at=self.instance.now
        )
        self.log.add_message(message)
        for endpoint in self.endpoints.values():
            if endpoint.accepts(message.type):
                self._queue(message, endpoint)
        self._wake_up.set()

    def record_caller(self, address: str, user_agent: str) -> None:
        """Record the caller of the changes that follow."""
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
        endpoint_data = {"url": url, "secret": secret, "events": events or []}
        return self.add(endpoints.parse_endpoint(self.instance.ids, endpoint_data, transport, self.endpoints.values()))

    def add(self, endpoint: WebhookEndpoint) -> WebhookEndpoint:
        """Add an endpoint; it replaces one with the same id or address."""
        for other in [one.id for one in self.endpoints.values() if one.url == endpoint.url and one.id != endpoint.id]:
            self.disconnect(other)
        self.endpoints[endpoint.id] = endpoint
        return endpoint

    def disconnect(self, endpoint_id: str) -> bool:
        """Delete an endpoint; return whether it existed."""
        if self.endpoints.pop(endpoint_id, None) is None:
            return False
        self._postponed.pop(endpoint_id, None)
        self.log.fail_endpoint_deliveries(endpoint_id)
        return True

    def clear_deliveries(self) -> None:
        """Delete the messages and deliveries."""
        self._postponed.clear()
        self.log.clear()

    # Deliveries

    def replay(self, delivery_id: str) -> WebhookDelivery | None:
        """Send the message of a delivery again, with the same message id."""
        previous = self.log.deliveries.get(delivery_id)
        if previous is None or previous.endpoint_id not in self.endpoints:
            return None
        delivery = self.log.add(previous.message, previous.endpoint_id, self.instance.now)
        delivery.is_replay = True
        self._wake_up.set()
        return delivery

    def replay_message(self, message_id: str) -> list[WebhookDelivery]:
        """Send a message again to every endpoint that accepts it."""
        message = self.log.messages.get(message_id)
        if message is None:
            return []
        receivers = [one for one in self.endpoints.values() if one.accepts(message.type)]
        sent = [self.log.add(message, endpoint.id, self.instance.now) for endpoint in receivers]
        for delivery in sent:
            delivery.is_replay = True
        self._wake_up.set()
        return sent

    def send_example(self, endpoint_id: str, type_: str) -> WebhookDelivery:
        """Send the example of an event type to an endpoint, signed with its secret, as Clerk's dashboard does.

        The endpoint's event filter and faults do not apply. KeyError: there is no such endpoint.
        """
        endpoint, now = self.endpoints[endpoint_id], self.instance.now
        body = json.dumps(example_payload(type_), ensure_ascii=False, separators=(",", ":"))
        message = WebhookMessage(id=self.instance.ids.new("msg"), type=type_, body=body, created_at=now)
        self.log.add_message(message)
        delivery = self.log.add(message, endpoint.id, now)
        self._wake_up.set()
        return delivery

    async def drain(self) -> None:
        """Deliver until nothing is due; includes postponed deliveries whose successor never came."""
        while True:
            self._dispatch()
            if self._batch_tasks:
                await asyncio.wait(set(self._batch_tasks))
                continue
            if not self._postponed:
                break
            for delivery in list(self._postponed.values()):
                self._release(delivery)
        if self._task is None:
            await self._close_clients()

    async def start(self) -> None:
        """Start delivering in the background."""
        if self._task is None:
            self._wake_up = asyncio.Event()
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop delivering in the background and close the connections."""
        task, self._task = self._task, None
        running = [*self._batch_tasks, *([task] if task else [])]
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
            self._wake_up.clear()
            self._release_overdue()
            self._dispatch()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake_up.wait()
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
        """Drop or delay a delivery according to the settings; the same seed selects the same deliveries."""
        settings = self.instance.settings
        if not settings.webhook_loss_percent and not settings.webhook_delay_seconds:
            return False
        rng = random.Random(f"{settings.webhook_seed}/{delivery.id}")  # noqa: S311 - repeatable by wish
        is_lost = rng.random() * 100 < settings.webhook_loss_percent
        delivery.due_at += round(rng.random() * settings.webhook_delay_seconds * 1000)
        delivery.fault = "lost" if is_lost else "late"
        if is_lost:
            self.log.finish(delivery, "dropped")
        return True

    def _apply_delivery_fault(self, delivery: WebhookDelivery, fault: Fault) -> None:
        if fault.do == "drop":
            self.log.finish(delivery, "dropped")
        elif fault.do == "double":
            self.log.add(delivery.message, delivery.endpoint_id, delivery.due_at).fault = "double"
        elif fault.do == "delay":
            delivery.due_at += fault.delay_ms
        elif fault.do == "bad_signature":
            delivery.bad_signatures = 1

    def _reorder(self, delivery: WebhookDelivery, *, is_requested: bool) -> None:
        """Swap a delivery with the postponed one, or postpone it until the next one."""
        postponed = self._postponed.pop(delivery.endpoint_id, None)
        if postponed is not None and postponed.is_postponed:
            postponed.message, delivery.message = delivery.message, postponed.message
            postponed.fault, delivery.fault = delivery.fault, postponed.fault
            self._release(postponed)
        elif is_requested:
            delivery.is_postponed = True
            delivery.due_at += REORDER_WINDOW_MILLISECONDS
            self._postponed[delivery.endpoint_id] = delivery

    def _release(self, delivery: WebhookDelivery) -> None:
        self._postponed.pop(delivery.endpoint_id, None)
        delivery.is_postponed = False
        delivery.due_at = self.instance.now

    def _release_overdue(self) -> None:
        now = self.instance.now
        for delivery in list(self._postponed.values()):
            if delivery.due_at <= now:
                self._release(delivery)

    def _due(self) -> list[WebhookDelivery]:
        now = self.instance.now
        found = [
            delivery
            for delivery in self.log.iter_pending()
            if delivery.state == "pending"
            and delivery.due_at <= now
            and not delivery.is_postponed
            and delivery.endpoint_id not in self._sending
        ]
        if self.instance.settings.webhook_delay_seconds:
            found.sort(key=lambda delivery: delivery.due_at)
        return found

    def _dispatch(self) -> None:
        batches: dict[str, list[WebhookDelivery]] = {}
        for delivery in self._due():
            delivery.state = "sending"
            batches.setdefault(delivery.endpoint_id, []).append(delivery)
        for endpoint_id, batch in batches.items():
            self._sending.add(endpoint_id)
            task = asyncio.create_task(self._deliver_batch(endpoint_id, batch))
            self._batch_tasks.add(task)
            task.add_done_callback(self._batch_tasks.discard)

    async def _deliver_batch(self, endpoint_id: str, batch: list[WebhookDelivery]) -> None:
        try:
            for delivery in batch:
                if self.log.is_pending(delivery):  # otherwise the log was cleared meanwhile
                    await self._deliver(delivery)
        finally:
            self._sending.discard(endpoint_id)
            for delivery in batch:
                if delivery.state == "sending":
                    delivery.state = "pending"
            self._wake_up.set()

    async def _deliver(self, delivery: WebhookDelivery) -> None:
        endpoint = self.endpoints.get(delivery.endpoint_id)
        if endpoint is None:
            self.log.finish(delivery, "failed")
            return
        attempt, is_final = await self._attempt(delivery, endpoint)
        delivery.attempts.append(attempt)
        if attempt.status is not None and 200 <= attempt.status < 300:
            self.log.finish(delivery, "succeeded")
            return
        wait = retry_schedule.retry_delay(len(delivery.attempts), self.retry_scale)
        if wait is None or is_final:
            self.log.finish(delivery, "failed")
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
        """Return the endpoints and their pending deliveries as JSON."""
        saved_endpoints = {one.id: one.describe() for one in self.endpoints.values() if one.transport is None}
        iter_pending = [row for row in self.log.dump_pending() if row["endpoint_id"] in saved_endpoints]
        return {"endpoints": list(saved_endpoints.values()), "waiting": iter_pending}

    def load(self, data: dict[str, Any]) -> None:
        """Load the result of `dump()`."""
        for endpoint_data in data.get("endpoints", []):
            self.add(endpoints.parse_endpoint(self.instance.ids, endpoint_data))
        self.log.load_pending(data.get("waiting", []))
