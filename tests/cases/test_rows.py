"""Every row of the table of cases has a test that is named after it."""

import ast
import re
from pathlib import Path

ROWS = {"A": 7, "B": 5, "C": 6, "D": 6, "E": 16, "F": 2, "I": 9}
NAME = re.compile(r"test_([a-z])(\d+)_")


def tested_rows() -> set[str]:
    """Return the rows that the names of this folder's test functions cite."""
    sources = (ast.parse(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("test_*.py"))
    functions = (
        node for tree in sources for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    found = (NAME.match(function.name) for function in functions)
    return {f"{match[1].upper()}{match[2]}" for match in found if match}


def test_every_row_has_a_test() -> None:
    """Prevents a row from being lost when tests are moved or renamed."""
    assert tested_rows() == {f"{section}{number}" for section, last in ROWS.items() for number in range(1, last + 1)}
