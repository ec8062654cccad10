"""CSV lines that are safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Sequence

# OWASP, "CSV Injection". Some spreadsheets treat full-width characters like their ASCII counterparts.
_FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def format_csv_line(cells: Sequence[str | None]) -> str:
    """Return one line of CSV (RFC 4180); None is an empty cell."""
    text = io.StringIO()
    csv.writer(text).writerow([escape_formula(cell or "") for cell in cells])
    return text.getvalue()


def escape_formula(cell: str) -> str:
    """Return a cell that a spreadsheet shows as text: a formula is prefixed with an apostrophe."""
    return f"'{cell}" if cell.startswith(_FORMULA_PREFIXES) else cell
