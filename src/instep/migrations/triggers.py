"""Triggers in both dialects: exact member counts, and an append-only audit."""

_COUNT = """
CREATE FUNCTION instep_count_members() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO instep_member_counts AS c (organization_id, status, role, members)
  SELECT organization_id, status, role, sum(n) FROM ({source}) AS changed
  GROUP BY organization_id, status, role HAVING sum(n) <> 0 ORDER BY organization_id, status, role
  ON CONFLICT (organization_id, status, role) DO UPDATE SET members = c.members + excluded.members;
  RETURN NULL;
END $$"""

_NEW = "SELECT organization_id, status, role, 1 AS n FROM new_rows"
_OLD = "SELECT organization_id, status, role, -1 AS n FROM old_rows"


def _counting(event: str, source: str, tables: str) -> list[str]:
    name = f"instep_count_{event.lower()}"
    return [
        _COUNT.format(source=source).replace("instep_count_members", name),
        f"CREATE TRIGGER {name} AFTER {event} ON instep_memberships REFERENCING {tables} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()",
    ]


POSTGRESQL = [
    *_counting("INSERT", _NEW, "NEW TABLE AS new_rows"),
    *_counting("UPDATE", f"{_NEW} UNION ALL {_OLD}", "NEW TABLE AS new_rows OLD TABLE AS old_rows"),
    *_counting("DELETE", _OLD, "OLD TABLE AS old_rows"),
    "CREATE FUNCTION instep_audit_grows() RETURNS trigger LANGUAGE plpgsql AS $$ "
    "BEGIN RAISE EXCEPTION 'the audit can only grow'; END $$",
    "CREATE TRIGGER instep_audit_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON instep_audit "
    "FOR EACH STATEMENT EXECUTE FUNCTION instep_audit_grows()",
]


def _add(row: str, by: int) -> str:
    return (
        "INSERT INTO instep_member_counts (organization_id, status, role, members) "
        f"VALUES ({row}.organization_id, {row}.status, {row}.role, {by}) "
        f"ON CONFLICT (organization_id, status, role) DO UPDATE SET members = members + {by};"
    )


SQLITE = [
    f"CREATE TRIGGER instep_count_insert AFTER INSERT ON instep_memberships BEGIN {_add('NEW', 1)} END",
    f"CREATE TRIGGER instep_count_delete AFTER DELETE ON instep_memberships BEGIN {_add('OLD', -1)} END",
    "CREATE TRIGGER instep_count_update AFTER UPDATE OF organization_id, status, role ON instep_memberships "
    "WHEN (OLD.organization_id, OLD.status, OLD.role) IS NOT (NEW.organization_id, NEW.status, NEW.role) "
    f"BEGIN {_add('OLD', -1)} {_add('NEW', 1)} END",
    "CREATE TRIGGER instep_audit_no_update BEFORE UPDATE ON instep_audit "
    "BEGIN SELECT RAISE(ABORT, 'the audit can only grow'); END",
    "CREATE TRIGGER instep_audit_no_delete BEFORE DELETE ON instep_audit "
    "BEGIN SELECT RAISE(ABORT, 'the audit can only grow'); END",
]
