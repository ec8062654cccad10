"""Which failures of a database driver are outages, and which refuse the values of one statement. Pure.

An outage ends without the caller's doing (the server is down, the disk is full, the file is corrupt), so trying again
later can succeed. A refusal comes from the values or the statement, and trying again gives the same. Unknown codes of
PostgreSQL count as outages: an unknown failure is not the fault of whoever sent the request.

Sources: PostgreSQL's appendix "Error Codes" (the first two characters of a SQLSTATE are its class), and SQLite's
"Result and Error Codes" (the name before the second underscore is the primary code).
"""

REFUSED_STATES = (
    "21",  # cardinality violation
    "22",  # data exception: out of range, bad encoding, invalid text
    "23",  # integrity constraint violation
    "42",  # syntax error or access rule violation: a fault of the statement, except for OUTAGE_STATES
    "44",  # WITH CHECK OPTION violation
    "54",  # program limit exceeded, such as the size of an index row
    "P0",  # raised by a trigger
)
OUTAGE_STATES = (
    "42501",  # insufficient privilege: the role may not write
    "42P01",  # undefined table: another schema than this version needs
    "42703",  # undefined column
)
REFUSED_NAMES = ("SQLITE_CONSTRAINT", "SQLITE_TOOBIG", "SQLITE_MISMATCH", "SQLITE_RANGE")
GENERIC = "SQLITE_ERROR"  # everything without a code of its own; told apart by its text
MISSING = "no such "  # table, column, module, function: another schema, or another library, than this version needs


def is_outage(error: object, *, is_operational: bool) -> bool:
    """Return whether a driver's error is an outage; otherwise the database refused the statement or its values.

    `is_operational`: whether the driver calls it an OperationalError, which decides where there is no code: then the
    driver never reached the database, or refused the values itself.
    """
    if state := getattr(error, "sqlstate", None):
        return state in OUTAGE_STATES or not state.startswith(REFUSED_STATES)
    if name := getattr(error, "sqlite_errorname", None):
        return str(error).startswith(MISSING) if name == GENERIC else not name.startswith(REFUSED_NAMES)
    return is_operational
