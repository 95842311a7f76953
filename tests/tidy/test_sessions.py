"""No code changes a pooled session: the pool gives connections back as they are (gateway/database/pool.py)."""

import ast
import re

from tests.tidy.house import ROOT, Module, modules

CHANGES = re.compile(
    r"\bSET\s+(SESSION|TIME ZONE|ROLE|[a-z_.]+\s*(=|TO)\s*('|\"|\d|on\b|off\b))|\bset_config\s*\("
    r"|\bpg_(try_)?advisory_lock|\bLISTEN\b|\bPREPARE\b|\bWITH HOLD\b|\bDISCARD\b|\bRESET\s+[A-Z]|\bCREATE\s+TEMP"
)
ENDS_WITH_ITS_TRANSACTION = re.compile(r"\bSET LOCAL\b|\bON COMMIT DROP\b|\bset_config\s*\([^)]*,\s*true\)")
OWN_SESSION = {
    "gateway/chores.py": "the leader's lock lives with a connection of its own",
    "gateway/jobs/store.py": "a lane's lock: `JobRunner` takes a session of its own",
}


def texts(module: Module) -> list[str]:
    documentation = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
    ]


def changes_session(text: str) -> bool:
    if "UPDATE" in text or "ON CONFLICT" in text or text.lstrip().startswith("SET\n"):
        text = re.sub(r"\bSET\s+[a-z_]+\s*=", "", text)  # of an UPDATE
    return bool(CHANGES.search(text)) and not ENDS_WITH_ITS_TRANSACTION.search(text)


def test_no_statement_changes_the_session_that_it_runs_in() -> None:
    found = {module.name for module in modules("gateway") for text in texts(module) if changes_session(text)}
    assert found == set(OWN_SESSION)


def test_functions_of_the_schema_change_settings_for_their_own_run_only() -> None:
    """Settings stand in a function's head, which PostgreSQL undoes at its end; locks end with the transaction."""
    for path in sorted((ROOT / "gateway/database/migrations").glob("*.sql")):
        for body in re.findall(r"\$\$(.*?)\$\$", path.read_text(), re.DOTALL):
            assert not re.search(r"pg_(try_)?advisory_lock|set_config|\b(RESET|LISTEN)\b", body), path.name
            assert not re.search(r"\bSET (enable_|plan_|role|search_path|session|[a-z]+_timeout)", body), path.name


def test_a_statement_that_changes_its_session_is_seen() -> None:
    for text in (
        "SET statement_timeout = 0", "SELECT set_config('a.b', 'c', false)", "SELECT pg_advisory_lock(1)",
        "LISTEN news", "CREATE TEMPORARY TABLE t (n int)", "SET ROLE somebody", "RESET ALL",
    ):  # fmt: skip
        assert changes_session(text), text
    for text in (
        "SET LOCAL statement_timeout = 0", "UPDATE t SET state = 'x'", "SELECT pg_advisory_xact_lock(1)",
        "CREATE TEMPORARY TABLE t (n int) ON COMMIT DROP",
    ):  # fmt: skip
        assert not changes_session(text), text
