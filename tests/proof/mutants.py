"""Mutation tests: `python -m tests.proof.mutants [word ...]` breaks one rule of instep at a time; a test must fail.

A mutant is a copy of the source with one replaced text, run against the tests of the broken rule. The same tests must
pass on an unchanged copy first: a test that fails anyway detects nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """A broken rule: `new` instead of `old` in `file` of src/instep; `tests`, a path and maybe `-k`, must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "reconcile: the last observation wins",
        "domain/reconcile.py",
        "known is None or incoming.version > known.version:",
        "known is None or incoming.digest != known.digest:",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "reconcile: an equal version wins without a refetch",
        "domain/reconcile.py",
        "incoming.version > known.version:",
        "incoming.version >= known.version and incoming.digest != known.digest:",
        "tests/domain/test_reconcile.py",
    ),
    Mutant(
        "reconcile: any observation revives a deleted entity",
        "domain/reconcile.py",
        "if known is not None and known.is_deleted:",
        "if False:",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "refetch: one failed lookup confirms an absence",
        "webhooks/refetch.py",
        "<= now - ABSENCE_CONFIRMATION_DELAY:",
        "<= now:",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "reconcile: an assumed deletion is final",
        "domain/reconcile.py",
        "    if known.absent_at is None:",
        "    if True:",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "reconcile: a reported deletion can be reverted",
        "domain/reconcile.py",
        "    if known.absent_at is None:",
        "    if False:",
        "tests/domain/test_reconcile.py",
    ),
    Mutant(
        "reconcile: an observation alone reverts an assumed deletion",
        "domain/reconcile.py",
        "    return Change(incoming, known) if is_proof else NeedsRefetch(incoming.key, incoming.entity, known)",
        "    return Change(incoming, known)",
        "tests/domain/test_reconcile.py",
    ),
    Mutant(
        "webhooks: a delivery is acknowledged before the commit",
        "webhooks/receiver.py",
        "        await done\n",
        "        done.add_done_callback(lambda future: future.exception())\n",
        "tests/webhooks/test_receiver.py",
    ),
    Mutant(
        "webhooks: deliveries are marked as processed in a transaction of their own",
        "webhooks/processor.py",
        "            claimed, result = await self.db.write(self._claim_and_process)\n",
        "            claim = repository.claim_due_deliveries\n"
        "            rows = await self.db.write(lambda conn: claim(conn, now=self.clock(), limit=BATCH_SIZE))\n"
        "            done = {row.id: 'claimed' for row in rows}\n"
        "            await self.db.write(lambda conn: repository.mark_processed(conn, done, now=self.clock()))\n"
        "            result = await self.db.write(lambda conn: self._process(conn, rows, [], self.clock()))\n"
        "            claimed = len(rows)\n",
        "tests/webhooks/test_processor.py -k dies",
    ),
    Mutant(
        "mirror: the local clock is stored as the version",
        "mirror/apply.py",
        '"version": state.version if isinstance(state, Observation) else 0',
        '"version": now if isinstance(state, Observation) else 0',
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "webhooks: the time of arrival is the version",
        "webhooks/processor.py",
        "            return self.parse(delivery.body.encode())\n",
        "            return [\n"
        "                type(state)(state.key, self.clock(), state.entity, state.digest)\n"
        "                if hasattr(state, 'version') else state\n"
        "                for state in self.parse(delivery.body.encode())\n"
        "            ]\n",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "webhooks: a repeated delivery is processed again",
        "webhooks/repository.py",
        'upsert_rows(conn, deliveries, list(rows.values()), key="id")',
        'upsert_rows(conn, deliveries, list(rows.values()), key="id", update=["state", "due_at"])',
        "tests/webhooks/test_receiver.py",
    ),
    Mutant(
        "webhooks: a membership without its parents is dropped",
        "webhooks/processor.py",
        "        if delivery_id is not None:\n            result.refetch_requests",
        "        if False:\n            result.refetch_requests",
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "mirror: a membership of a deleted user or organization is active",
        "mirror/apply.py",
        "is_deleted = user.is_deleted or organization.is_deleted or isinstance(write.state, Tombstone)",
        "is_deleted = isinstance(write.state, Tombstone)",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "webhooks: one failing delivery fails its whole batch",
        "webhooks/processor.py",
        "            return await self._process_one_by_one()\n",
        "            raise\n",
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "webhooks: a delivery does not fail after its last retry",
        "webhooks/processor.py",
        "if delivery.attempts >= len(RETRY_DELAYS):",
        "if delivery.attempts >= len(RETRY_DELAYS) + 5:",
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "webhooks: a refetched older version settles a delivery",
        "webhooks/processor.py",
        "return _record_decision(result, decision, None) != OLDER_REASON",
        'return _record_decision(result, decision, None) != "never"',
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "webhook signature: any signature is accepted",
        "clerk/webhook_signature.py",
        'raise WebhookSignatureError("The signature does not match any signing secret.")',
        "return",
        "tests/clerk/test_webhook_signature.py",
    ),
    Mutant(
        "webhook signature: an old timestamp is accepted",
        "clerk/webhook_signature.py",
        "if abs(now - sent_at) > TIMESTAMP_TOLERANCE:",
        "if sent_at - now > TIMESTAMP_TOLERANCE:",
        "tests/clerk/test_webhook_signature.py",
    ),
    Mutant(
        "webhooks: deliveries of another instance are processed",
        "webhooks/processor.py",
        "if instances[each.id] not in (None, each.bound)",
        "if not each.body",
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "members: an invitation expires only when Clerk reports it",
        "members/listing.py",
        " or (invitation.expires_at is not None and invitation.expires_at <= now)",
        "",
        "tests/members/test_listing.py",
    ),
    Mutant(
        "members: the last invitation of a page is repeated on the next one",
        "members/listing.py",
        "(row.created_at, row.id) < after]",
        "(row.created_at, row.id) <= after]",
        "tests/members/test_listing.py",
    ),
    Mutant(
        "operations: a create is repeated without verification",
        "operations/executor.py",
        "        if not is_first:\n            verified = await step.verify(_with_intent(operation, intent))\n",
        "        if not is_first:\n            verified = None\n",
        "tests/operations",
    ),
    Mutant(
        "operations: a worker that lost its lease writes",
        "operations/repository.py",
        "c.id == operation.id, c.fence == operation.fence,",
        "c.id == operation.id,",
        "tests/operations -k lease",
    ),
    Mutant(
        "operations: an idempotency key is accepted for another change",
        "operations/executor.py",
        "if (repeated.kind, repeated.target) != (request.kind, request.target):",
        "if False:",
        "tests/stories/test_repetition.py",
    ),
    Mutant(
        "sync: a partial scan leads to deletions",
        "sync/scan.py",
        "if parts and not self.is_check:",
        "if False:",
        "tests/sync/test_apply.py",
    ),
    Mutant(
        "sync: there is no deletion limit",
        "sync/plan.py",
        "if count > compute_deletion_limit(living.get(kind, 0), allowed)",
        "if False",
        "tests/sync/test_apply.py",
    ),
    Mutant(
        "mirror: a webhook overwrites fields owned by the database",
        "mirror/apply.py",
        "owned = get_owned_fields(conn, excluded=written_fields)",
        "owned: frozenset[str] = frozenset()",
        "tests/stories/test_ownership.py",
    ),
    Mutant(
        "operations: Clerk is called after the lease was lost",
        "operations/executor.py",
        "        operation = await self._renew_lease(operation)\n        typed_operation",
        "        typed_operation",
        "tests/operations -k lease",
    ),
    Mutant(
        "operations: a missing response counts as a rejection",
        "operations/executor.py",
        "        if error.has_response:",
        "        if True:",
        "tests/operations -k without_a_response",
    ),
    Mutant(
        "operations: a claimed operation has no lease",
        "operations/repository.py",
        '"attempts": found.attempts + 1, "due_at": until}',
        '"attempts": found.attempts + 1}',
        "tests/operations -k leased",
    ),
    Mutant(
        "webhooks: a delivery that is being refetched has no lease",
        "webhooks/processor.py",
        "        repository.lease_deliveries(conn, list(result.refetch_requests), until=now + LEASE_DURATION)\n",
        "",
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "sync: two runs at the same time",
        "sync/repository.py",
        "    if is_in_future(until, now, LEASE_DURATION):",
        "    if False:",
        "tests/sync/test_apply.py -k only_one_sync",
    ),
    Mutant(
        "sync: a run that lost its lease writes",
        "sync/repository.py",
        ".values(until=now + LEASE_DURATION)).rowcount != 1:",
        ".values(until=now + LEASE_DURATION)).rowcount > 1:",
        "tests/sync/test_apply.py -k lost_its_lease",
    ),
    Mutant(
        "sync: a missing row is deleted without a second lookup",
        "sync/scan.py",
        "if row.finding.key not in absent]\n        labels",
        "if False]\n        labels",
        "tests/sync/test_apply.py -k recheck",
    ),
    Mutant(
        "backfill: it is resumed without limit",
        "sync/jobs.py",
        "        if fruitless <= MAX_FRUITLESS_RESUMES:",
        "        if True:",
        "tests/sync/test_run_queue.py -k always_kills",
    ),
    Mutant(
        "sync: a plan never expires",
        "sync/service.py",
        "if not is_in_future(plan.expires_at or 0, self.clock(), PLAN_LIFETIME):",
        "if False:",
        "tests/sync/test_apply.py -k expires_after",
    ),
    Mutant(
        "sync: a changed plan is applied",
        "sync/service.py",
        "if await self.db.read(repository.hash_plan, plan_id) != plan.hash:",
        "if False:",
        "tests/sync/test_apply.py -k plan_that_was_changed",
    ),
    Mutant(
        "sync: a finding is applied without a recheck",
        "sync/apply.py",
        'if finding.repair_target != "clerk" and (reason := checks.refuse(finding)):',
        "if False and (reason := checks.refuse(finding)):",
        "tests/sync/test_apply.py -k changed_after",
    ),
    Mutant(
        "sync: a user who exists in Clerk again is deleted",
        "sync/apply.py",
        "if isinstance(answer.state, Tombstone) and finding.key not in absent:",
        "if False:",
        "tests/sync/test_apply.py -k exists_in_clerk_again",
    ),
    Mutant(
        "pagination: a deletion makes an offset listing skip an item",
        "clerk/pagination.py",
        "offset = max(0, taken - OVERLAP) if tail else taken",
        "offset = taken",
        "tests/clerk/test_instance_scanner.py",
    ),
    Mutant(
        "backfill: a window is done before its page is stored",
        "sync/backfill.py",
        "windows[step.kind][step.index] = step.after",
        "windows[step.kind][step.index] = WindowProgress(step.after.window, None, True, 0)",
        "tests/sync/test_backfill.py -k stopped_at_any",
    ),
    Mutant(
        "backfill: a window advances past a page that is not stored",
        "sync/backfill.py",
        "if it.cursor == step.before and not it.is_done:",
        "if not it.is_done:",
        "tests/sync/test_backfill_writer.py",
    ),
    Mutant(
        "backfill: a concurrent deletion of a parent is overlooked",
        "mirror/bulk_insert.py",
        'if kind == "membership":\n        _lock_parents(conn, rows)',
        "pass",
        "tests/mirror/test_bulk_insert.py -k deleted_meanwhile",
    ),
    Mutant(
        "mirror: new rows are inserted in arbitrary order",
        "mirror/apply.py",
        ', lock_order="clerk_id"',
        "",
        "tests/mirror/test_bulk_insert.py -k in_the_common_order",
    ),
    Mutant(
        "backfill: inserted rows are reconciled again",
        "sync/backfill.py",
        "if it.observation.key in keys]",
        "]",
        "tests/sync/test_backfill.py -k counted_once",
    ),
    Mutant(
        "deferred indexes: they are not created after a failed backfill",
        "sync/backfill.py",
        "if isinstance(failures, ExceptionGroup):",
        "if False:",
        "tests/mirror/test_deferred_indexes.py",
    ),
    Mutant(
        "deferred indexes: they are not recorded before they are dropped",
        "mirror/deferred_indexes.py",
        'conn.execute(sa.text(insert_fact), {"fact": _FACT_PREFIX + name})',
        "_ = insert_fact",
        "tests/mirror/test_deferred_indexes.py",
    ),
    Mutant(
        "sync: the newest missing users are not found",
        "sync/scan.py",
        "if (it.wrote_at or 0) < self.started_at]",
        "if (it.wrote_at or 0) < self.started_at and it.key.kind != 'user']",
        "tests/sync/test_service.py -k newest_user",
    ),
    Mutant(
        "clerk client: any path is requested",
        "clerk/http.py",
        "if not _PATH_PATTERN.fullmatch(path):",
        "if False:",
        "tests/contract",
    ),
    Mutant(
        "auth: members have the rights of admins",
        "auth/principal.py",
        "self.roles.is_admin(self.role)",
        "self.role is not None",
        "tests/stories/test_doors.py",
    ),
    Mutant(
        "rate limiter: a permit counts for the window only",
        "clerk/rate_limiter.py",
        "return self.window + PERMIT_LIFETIME + MAX_TRANSIT + SLOT_LENGTH",
        "return self.window",
        "tests/clerk/test_permits.py",
    ),
    Mutant(
        "rate limiter: a grant counts from the start of its slot",
        "clerk/rate_limiter.py",
        "return self.window + PERMIT_LIFETIME + MAX_TRANSIT + SLOT_LENGTH",
        "return self.window + PERMIT_LIFETIME + MAX_TRANSIT",
        "tests/clerk/test_permits.py",
    ),
    Mutant(
        "rate limiter: returned permits are used",
        "clerk/rate_limiter.py",
        "slot=self._lease_slot), 0",
        "slot=self._lease_slot), self._leased",
        "tests/clerk/test_rate_limiter.py -k returned",
    ),
    Mutant(
        "rate limiter: permits are returned to every slot",
        "clerk/rate_limiter.py",
        "granted - count if granted_slot == slot else granted",
        "granted - count",
        "tests/clerk/test_permits.py",
    ),
)


def main(words: list[str]) -> int:
    """Run all mutants, or those with one of `words` in their name; return the number that no test detected."""
    selected = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    suites = sorted({mutant.tests for mutant in selected})
    with tempfile.TemporaryDirectory(prefix="instep-mutants-") as folder:
        for suite in suites:
            if failed := find_failure(suite, copy_source(Path(folder) / "unchanged")):
                print(f"FAILS UNCHANGED  {failed}: fix it first")
                return 1
        survivors = [mutant for mutant in selected if not is_detected(mutant, Path(folder) / "mutant")]
    print(f"{len(selected) - len(survivors)} of {len(selected)} mutants were detected")
    return len(survivors)


def is_detected(mutant: Mutant, folder: Path) -> bool:
    """Return whether a test fails on a copy with the mutant in `folder`."""
    file = copy_source(folder) / "src" / "instep" / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        print(f"DOES NOT FIT  {mutant.name}: its text occurs {text.count(mutant.old)} times in {mutant.file}")
        return False
    file.write_text(text.replace(mutant.old, mutant.new))
    started_at = time.monotonic()
    failed = find_failure(mutant.tests, folder)
    print(f"{'detected' if failed else 'SURVIVED'}  {time.monotonic() - started_at:5.1f} s  {mutant.name}")
    print(f"          {'by ' + failed if failed else 'all passed: ' + mutant.tests}")
    return bool(failed)


def copy_source(folder: Path) -> Path:
    """Copy the source and its tests into `folder`, and return it."""
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def find_failure(suite: str, folder: Path) -> str:
    """Return the first test of `suite` that fails on the copy in `folder`, or an empty string.

    Exits if the tests could not be run.
    """
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *split_suite(suite)]
    environment = os.environ | {"PYTHONPATH": f"{folder / 'src'}:{folder}", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["HYPOTHESIS_PROFILE"] = "mutants"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode not in (0, 1) or (done.returncode == 1 and not failed):
        raise SystemExit(f"{suite} could not be run:\n{done.stdout}{done.stderr}")
    return failed[0].split(" ")[1] if failed else ""


def split_suite(suite: str) -> list[str]:
    """Return the arguments for pytest: the path, and `-k` with its expression if there is one."""
    path, _, expression = suite.partition(" -k ")
    return [path, "-k", expression] if expression else [path]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
