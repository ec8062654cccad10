"""What access believes of the mirror's tables."""

import pytest
import sqlalchemy as sa

from instep.auth import tables
from instep.mirror import tables as mirror_tables


@pytest.mark.parametrize("name", ["users", "organizations", "memberships"])
def test_the_mirror_has_every_column_that_access_reads(name: str) -> None:
    read: sa.TableClause = getattr(tables, name)
    real: sa.Table = getattr(mirror_tables, name)
    assert read.name == real.name
    for column in read.columns:
        assert type(column.type) is type(real.c[column.name].type), column.name
