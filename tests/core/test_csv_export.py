"""No cell of an export runs as a formula in a spreadsheet."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.core.csv_export import escape_formula, format_csv_line


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_is_shown_as_text(cell: str) -> None:
    assert escape_formula(cell) == f"'{cell}"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2, max_size=5))
def test_a_line_reads_back_as_its_cells(cells: list[str]) -> None:
    (read,) = csv.reader(io.StringIO(format_csv_line(cells), newline=""))
    assert read == [escape_formula(cell) for cell in cells]
