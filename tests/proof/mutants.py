"""Mutants: instep with one law broken, each of which the tests must notice. `python -m tests.proof.mutants [name ...]`

Each is a copy of the source with one piece of text replaced, run against the tests that hold that law. First the same
tests run on the copy as it is: a test that fails anyway would notice nothing.
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
    """A broken law: in `file`, `old` became `new`; `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "guard dropped: the last news to come wins",
        "domain/reconcile.py",
        "known is None or news.version > known.version:",
        "known is None or news.digest != known.digest:",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "strict for loose: an equal version wins without asking",
        "domain/reconcile.py",
        "news.version > known.version:",
        "news.version >= known.version and news.digest != known.digest:",
        "tests/domain/test_reconcile.py",
    ),
    Mutant(
        "tombstone off: the dead rise",
        "domain/reconcile.py",
        "if known is not None and known.is_gone:",
        "if False:",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "an absence is believed at the first look",
        "webhooks/refetch.py",
        "<= now - ABSENCE_CONFIRMATION_DELAY:",
        "<= now:",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "whoever was missed once stays dead",
        "domain/reconcile.py",
        "    if known.absent_at is None:",
        "    if True:",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "a deletion that Clerk told of is taken back",
        "domain/reconcile.py",
        "    if known.absent_at is None:",
        "    if False:",
        "tests/domain/test_reconcile.py",
    ),
    Mutant(
        "late news alone raise whoever was missed",
        "domain/reconcile.py",
        "    return Change(news, known) if is_proof else AskAgain(news.key, news.entity, known)",
        "    return Change(news, known)",
        "tests/domain/test_reconcile.py",
    ),
    Mutant(
        "acknowledged before the commit",
        "webhooks/receiver.py",
        "        await done\n",
        "        done.add_done_callback(lambda it: it.exception())\n",
        "tests/webhooks/test_receiver.py",
    ),
    Mutant(
        "inbox apart from its effect: settled in a transaction before",
        "webhooks/processor.py",
        "            claimed, result = await self.db.write(self._claim_and_process)\n",
        "            claim = repository.claim_due_deliveries\n"
        "            rows = await self.db.write(lambda conn: claim(conn, now=self.clock(), limit=BATCH_SIZE))\n"
        "            done = {it.id: 'claimed' for it in rows}\n"
        "            await self.db.write(lambda conn: repository.mark_processed(conn, done, now=self.clock()))\n"
        "            result = await self.db.write(lambda conn: self._process(conn, rows, [], self.clock()))\n"
        "            claimed = len(rows)\n",
        "tests/webhooks/test_processor.py -k dies",
    ),
    Mutant(
        "wall clock as version",
        "mirror/apply.py",
        '"version": news.version if isinstance(news, Seen) else 0',
        '"version": now if isinstance(news, Seen) else 0',
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "time of arrival as version, in the deciding too",
        "webhooks/processor.py",
        "            return self.parse(delivery.body.encode())\n",
        "            return [\n"
        "                type(it)(it.key, self.clock(), it.entity, it.digest) if hasattr(it, 'version') else it\n"
        "                for it in self.parse(delivery.body.encode())\n"
        "            ]\n",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "a copy opens a settled delivery again",
        "webhooks/repository.py",
        'upsert_rows(conn, deliveries, list(rows.values()), key="id")',
        'upsert_rows(conn, deliveries, list(rows.values()), key="id", update=["state", "due_at"])',
        "tests/webhooks/test_receiver.py",
    ),
    Mutant(
        "a membership without its parents is dropped",
        "webhooks/processor.py",
        "        if delivery_id is not None:\n            result.refetch_requests",
        "        if False:\n            result.refetch_requests",
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "somebody belongs to the dead",
        "mirror/apply.py",
        "is_dead = user.is_gone or organization.is_gone or isinstance(it.news, Gone)",
        "is_dead = isinstance(it.news, Gone)",
        "tests/stories/test_machine.py",
    ),
    Mutant(
        "a batch is stopped by its worst delivery",
        "webhooks/processor.py",
        "            return await self._process_one_by_one()\n",
        "            raise\n",
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "it waits for ever and nobody is asked",
        "webhooks/processor.py",
        "if delivery.attempts >= len(RETRY_DELAYS):",
        "if delivery.attempts >= len(RETRY_DELAYS) + 5:",
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "an answer from the past settles",
        "webhooks/processor.py",
        "return _record_decision(result, decision, None) != OLDER_REASON",
        'return _record_decision(result, decision, None) != "never"',
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "any signature will do",
        "clerk/webhook_signature.py",
        'raise WebhookSignatureError("The signature does not match any signing secret.")',
        "return",
        "tests/clerk/test_webhook_signature.py",
    ),
    Mutant(
        "an old signature will do",
        "clerk/webhook_signature.py",
        "if abs(now - sent_at) > TIMESTAMP_TOLERANCE:",
        "if sent_at - now > TIMESTAMP_TOLERANCE:",
        "tests/clerk/test_webhook_signature.py",
    ),
    Mutant(
        "another instance's people come in",
        "webhooks/processor.py",
        "if instances[each.id] not in (None, each.bound)",
        "if not each.body",
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "an invitation expires only when Clerk says so",
        "members/listing.py",
        " or (invitation.expires_at is not None and invitation.expires_at <= now)",
        "",
        "tests/members/test_listing.py",
    ),
    Mutant(
        "the last invitation of a page is shown again",
        "members/listing.py",
        "(row.created_at, row.id) < after]",
        "(row.created_at, row.id) <= after]",
        "tests/members/test_listing.py",
    ),
    Mutant(
        "create retried blindly",
        "operations/executor.py",
        "        if not is_first:\n            verified = await step.verify(operation)\n",
        "        if not is_first:\n            verified = None\n",
        "tests/operations",
    ),
    Mutant(
        "lease without fence: a sleeper writes",
        "operations/repository.py",
        "c.id == operation.id, c.fence == operation.fence,",
        "c.id == operation.id,",
        "tests/operations",
    ),
    Mutant(
        "an idempotency key answers for another change",
        "operations/executor.py",
        "if (repeated.kind, repeated.target) != (request.kind, request.target):",
        "if False:",
        "tests/stories/test_repetition.py",
    ),
    Mutant(
        "deletion on a partial scan",
        "sync/scan.py",
        "if parts and not self.is_check:",
        "if False:",
        "tests/sync/test_apply.py",
    ),
    Mutant(
        "fuse off",
        "sync/plan.py",
        "if count > compute_deletion_limit(living.get(kind, 0), allowed)",
        "if False",
        "tests/sync/test_apply.py",
    ),
    Mutant(
        "a webhook overwrites what is the database's",
        "mirror/apply.py",
        "owned = owned_by_database(conn, but=wrote)",
        "owned: frozenset[str] = frozenset()",
        "tests/stories/test_ownership.py",
    ),
    Mutant(
        "a sleeper calls Clerk",
        "operations/executor.py",
        "        operation = await self._renew_lease(operation)\n        try:",
        "        try:",
        "tests/operations -k lease",
    ),
    Mutant(
        "silence is taken for a refusal",
        "operations/executor.py",
        "        if error.has_response:",
        "        if True:",
        "tests/operations -k without_a_response",
    ),
    Mutant(
        "whoever took an operation on has no lease",
        "operations/repository.py",
        '"attempts": found.attempts + 1, "due_at": until}',
        '"attempts": found.attempts + 1}',
        "tests/operations -k leased",
    ),
    Mutant(
        "a delivery under question is anybody's",
        "webhooks/processor.py",
        "        repository.lease_deliveries(conn, list(result.refetch_requests), until=now + LEASE_DURATION)\n",
        "",
        "tests/webhooks/test_processor.py",
    ),
    Mutant(
        "two syncs at once",
        "sync/repository.py",
        "    if is_in_future(until, now, LEASE_DURATION):",
        "    if False:",
        "tests/sync/test_apply.py -k only_one_sync",
    ),
    Mutant(
        "a sync's lease without fence",
        "sync/repository.py",
        ".values(until=now + LEASE_DURATION)).rowcount != 1:",
        ".values(until=now + LEASE_DURATION)).rowcount > 1:",
        "tests/sync/test_apply.py -k lost_its_lease",
    ),
    Mutant(
        "no second look",
        "sync/scan.py",
        "if row.finding.key not in absent]\n        labels",
        "if False]\n        labels",
        "tests/sync/test_apply.py -k second_look",
    ),
    Mutant(
        "a first sync ends its workers for ever",
        "sync/jobs.py",
        "        if fruitless <= MAX_FRUITLESS_RESUMES:",
        "        if True:",
        "tests/sync/test_run_queue.py -k always_kills",
    ),
    Mutant(
        "a plan is good for ever",
        "sync/service.py",
        "if not is_in_future(plan.expires_at or 0, self.clock(), PLAN_LIFETIME):",
        "if False:",
        "tests/sync/test_apply.py -k expires_after",
    ),
    Mutant(
        "a plan that was changed is applied",
        "sync/service.py",
        "if await self.db.read(repository.hash_plan, plan_id) != plan.hash:",
        "if False:",
        "tests/sync/test_apply.py -k plan_that_was_changed",
    ),
    Mutant(
        "a row is mended without another look",
        "sync/apply.py",
        'if finding.repair_target != "clerk" and (reason := checks.refuse(finding)):',
        "if False and (reason := checks.refuse(finding)):",
        "tests/sync/test_apply.py -k changed_after",
    ),
    Mutant(
        "whoever is back in Clerk is deleted",
        "sync/apply.py",
        "if isinstance(answer.news, Tombstone) and finding.key not in absent:",
        "if False:",
        "tests/sync/test_apply.py -k exists_in_clerk_again",
    ),
    Mutant(
        "a deletion skips somebody in a list of offsets",
        "clerk/pagination.py",
        "offset = max(0, taken - OVERLAP) if tail else taken",
        "offset = taken",
        "tests/clerk/test_instance_scanner.py",
    ),
    Mutant(
        "a window is left before its page is kept",
        "sync/backfill.py",
        "windows[step.kind][step.index] = step.after",
        "windows[step.kind][step.index] = WindowProgress(step.after.window, None, True, 0)",
        "tests/sync/test_backfill.py -k stopped_at_any",
    ),
    Mutant(
        "a window passes a page that another transaction has not kept",
        "sync/backfill.py",
        "if it.cursor == step.before and not it.is_done:",
        "if not it.is_done:",
        "tests/sync/test_keeping.py",
    ),
    Mutant(
        "a first sync overlooks who is called dead meanwhile",
        "mirror/bulk_insert.py",
        'if kind == "membership":\n        _keep_parents(conn, rows)',
        "pass",
        "tests/mirror/test_bulk_insert.py -k deleted_meanwhile",
    ),
    Mutant(
        "what is new is inserted as it comes, not in one order",
        "mirror/apply.py",
        ', order="clerk_id"',
        "",
        "tests/mirror/test_bulk_insert.py -k in_the_common_order",
    ),
    Mutant(
        "what a first sync has kept is taken again",
        "sync/backfill.py",
        "if it.news.key in keys]",
        "]",
        "tests/sync/test_first.py -k counted_once",
    ),
    Mutant(
        "an index that a first sync held is never made where it fails",
        "sync/backfill.py",
        "if isinstance(failures, ExceptionGroup):",
        "if False:",
        "tests/mirror/test_deferred_indexes.py",
    ),
    Mutant(
        "nobody knows which indexes a killed first sync held",
        "mirror/deferred_indexes.py",
        'conn.execute(sa.text(note), {"fact": _FACT + name})',
        "_ = note",
        "tests/mirror/test_deferred_indexes.py",
    ),
    Mutant(
        "the last who came are never missed",
        "sync/scan.py",
        "if (it.wrote_at or 0) < self.started_at]",
        "if (it.wrote_at or 0) < self.started_at and it.key.kind != 'user']",
        "tests/sync/test_run.py -k last_who_came",
    ),
    Mutant(
        "any id leads anywhere in Clerk",
        "clerk/http.py",
        "if not _PATH_PATTERN.fullmatch(path):",
        "if False:",
        "tests/contract",
    ),
    Mutant(
        "a door without a lock: members may do what admins may",
        "auth/principal.py",
        "self.role == ADMIN",
        "self.role is not None",
        "tests/stories/test_doors.py",
    ),
    Mutant(
        "pace: a permit counts no longer than the window",
        "clerk/rate_limiter.py",
        "return self.window + PERMIT_LIFETIME + MAX_TRANSIT + SLOT_LENGTH",
        "return self.window",
        "tests/clerk/test_sliding_window.py",
    ),
    Mutant(
        "pace: a grant counts from the beginning of its slot",
        "clerk/sliding_window.py",
        "return self.window + LASTS + TRANSIT + SLOT",
        "return self.window + LASTS + TRANSIT",
        "tests/clerk/test_sliding_window.py",
    ),
    Mutant(
        "pace: permits that went back are used all the same",
        "clerk/rate_limiter.py",
        "slot=self._lease_slot), 0",
        "slot=self._lease_slot), self._leased",
        "tests/clerk/test_rate_limiter.py -k returned",
    ),
    Mutant(
        "pace: what goes back is taken from any slot",
        "clerk/sliding_window.py",
        "many - count if at == slot else many",
        "many - count",
        "tests/clerk/test_sliding_window.py",
    ),
)


def main(names: list[str]) -> int:
    """Run all mutants, or those whose name has one of `names` in it; the exit code is how many survived."""
    wanted = [it for it in MUTANTS if not names or any(name in it.name for name in names)]
    suites = sorted({it.tests for it in wanted})
    with tempfile.TemporaryDirectory(prefix="instep-mutants-") as folder:
        for suite in suites:
            if found := failure(suite, copy(Path(folder) / "whole")):
                print(f"FAILS ANYWAY  {found}: mend it first")
                return 1
        survivors = [it for it in wanted if not is_killed(it, Path(folder) / "mutant")]
    print(f"{len(wanted) - len(survivors)} of {len(wanted)} mutants were noticed")
    return len(survivors)


def is_killed(mutant: Mutant, folder: Path) -> bool:
    """Whether the tests notice."""
    file = copy(folder) / "src" / "instep" / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        print(f"DOES NOT FIT  {mutant.name}: its text is {text.count(mutant.old)} times in {mutant.file}")
        return False
    file.write_text(text.replace(mutant.old, mutant.new))
    began = time.monotonic()
    found = failure(mutant.tests, folder)
    print(f"{'noticed ' if found else 'SURVIVED'}  {time.monotonic() - began:5.1f} s  {mutant.name}")
    print(f"          {'by ' + found if found else 'all of ' + mutant.tests}")
    return bool(found)


def copy(folder: Path) -> Path:
    """A copy of the source and its tests."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def failure(suite: str, folder: Path) -> str:
    """The first test of `suite` that fails on the copy. Anything but passing or failing ends the whole run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *_split(suite)]
    environment = os.environ | {"PYTHONPATH": f"{folder / 'src'}:{folder}", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["HYPOTHESIS_PROFILE"] = "mutants"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode not in (0, 1) or (done.returncode == 1 and not failed):
        raise SystemExit(f"{suite} could not be run:\n{done.stdout}{done.stderr}")
    return failed[0].split(" ")[1] if failed else ""


def _split(suite: str) -> list[str]:
    path, _, chosen = suite.partition(" -k ")
    return [path, "-k", chosen] if chosen else [path]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
