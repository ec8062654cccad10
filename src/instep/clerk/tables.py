"""The table of the pace: what all replicas together have asked of Clerk lately."""

import sqlalchemy as sa

from instep.kit.db import metadata

pace = sa.Table(
    "instep_pace",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("spent", sa.Text, nullable=False),
    comment="Permits to call Clerk, granted lately to all replicas together. On SQLite in a file beside the database.",
)
