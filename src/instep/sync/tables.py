"""Tables of sync: runs, findings, the lease and webhook freshness."""

import sqlalchemy as sa

from instep.core.db import Json, metadata

UNFINISHED = sa.text("state IN ('asked', 'running')")
leases = sa.Table(
    "instep_leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=False),
    comment="What one process at a time may do. fence: counts the holders, so that a sleeper's write is refused.",
)
runs = sa.Table(
    "instep_sync_runs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("impersonator", sa.Text),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("plan_id", sa.Text),
    sa.Column("totals", Json, nullable=False, server_default="{}"),
    sa.Column("counts", Json, nullable=False, server_default="{}"),
    sa.Column("progress", Json, nullable=False, server_default="{}"),
    sa.Column("stage", Json, nullable=False, server_default="{}"),
    sa.Column("wish", Json, nullable=False, server_default="{}"),
    sa.Column("hash", sa.Text),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("reason", sa.Text),
    sa.Column("code", sa.Text),
    sa.Index("ix_instep_sync_runs_started", "started_at", "id"),
    sa.Index("ix_instep_sync_runs_unfinished", "started_at", sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
    comment="state: asked (for a worker), running, done, refused, failed or stopped. progress: where each window of a "
    "first sync is; stage: how far it is, for those who watch; wish: what it was asked to do.",
)
findings = sa.Table(
    "instep_findings",
    metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("instep_sync_runs.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("thing", sa.Text, nullable=False),
    sa.Column("clerk_id", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("mend", sa.Text),
    sa.Column("body", Json, nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("outcome_reason", sa.Text),
    sa.Column("outcome_at", sa.BigInteger),
    comment="What a run found to differ. outcome: applied or skipped, once someone applied the plan.",
)
freshness = sa.Table(
    "instep_freshness",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("looked_at", sa.BigInteger, nullable=False),
    sa.Column("newest_event_at", sa.BigInteger),
    sa.Column("behind", sa.Integer, nullable=False),
    sa.Column("is_synced", sa.Boolean, nullable=False, server_default=sa.true()),
    comment="How the webhook stood when it was last looked at, for pages of every process.",
)
