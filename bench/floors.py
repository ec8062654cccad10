"""What this machine can do when only the needed work is done: the floors that the figures are held against."""

import time

from bench.databases import Database
from bench.deliveries import SECRET, Message, messages
from instep.clerk.parsing import parse_webhook
from instep.clerk.webhook_signature import WebhookVerifier
from instep.core.clock import now
from instep.domain.events import VerifiedDelivery
from instep.webhooks import repository

GROUP = 100


def verify_and_parse(seconds: float) -> float:
    """Deliveries a second, verified and read by our own functions, in a loop, in one thread."""
    verifier = WebhookVerifier([SECRET])
    sample = list(messages(2_000, existing=20_000, organizations=1_000, seed=1))
    for message in sample[:200]:
        _read(verifier, message)
    done, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        for message in sample:
            _read(verifier, message)
        done += len(sample)
    return done / (time.process_time() - started)


def _read(verifier: WebhookVerifier, message: Message) -> None:
    parse_webhook(verifier.open(message.headers(), message.body, now=now()).body)


def grouped_inserts(database: Database, seconds: float) -> float:
    """Deliveries a second, written to the inbox by one writer, a hundred a commit, and nothing else done."""
    done, spent, seed = 0, 0.0, 100
    while spent < seconds:
        at, seed = now(), seed + 1
        group = [_delivery(it, at) for it in messages(GROUP, existing=20_000, organizations=1_000, seed=seed)]
        started = time.perf_counter()
        database.db.write_sync(repository.insert_deliveries, group)
        spent += time.perf_counter() - started
        done += GROUP
    return done / spent


def _delivery(message: Message, at: int) -> VerifiedDelivery:
    return VerifiedDelivery(id=message.id, type="user.updated", instance_id=None, body=message.body, received_at=at)
