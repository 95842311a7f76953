"""The house's rules as tests. A ratchet in pyproject.toml holds what is not tidy yet: it may shrink, never grow."""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import log
from gateway.metrics.declared import METRICS
from tests.tidy.house import ROOT, Function, Module, agreed, modules

FILE_LINES = 300
FUNCTION_LINES = 40
POSITIONAL = 3  # two, and the connection that a store works on; self and cls are not counted; inside a module one more
NAMELESS = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "manager",
    "managers",
    "base",
    "service",
    "services",
    "misc",
}
STATEMENT = re.compile(
    r"\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|WITH\s+\w+.*\sAS\s*\(|TRUNCATE\s|"
    r"(CREATE|ALTER|DROP)\s+(TABLE|SYSTEM|INDEX|SCHEMA|DATABASE|VIEW|TYPE|FUNCTION|TRIGGER)\s|LISTEN\s|NOTIFY\s|COPY\s)",
    re.DOTALL,
)
MONEY = re.compile(r"minor|amount|bps|payable|money|fee|off_|commission|owed", re.IGNORECASE)
CAPABILITIES = {"accounts", "payments", "parking", "discounts", "referrals", "products"}


def in_ratchet(kind: str, found: dict[str, int], limit: int) -> None:
    """Everything is below the limit, or below its own number in the ratchet; no entry is larger than it needs."""
    allowed: dict[str, int] = agreed()[kind]
    above = {name: size for name, size in found.items() if size > max(limit, allowed.get(name, 0))}
    assert not above, f"above {limit}, and no new entry in [tool.tidy.{kind}] please: {above}"
    slack = {name: (size, found.get(name, 0)) for name, size in allowed.items() if found.get(name, 0) < size}
    assert not slack, f"tidier than [tool.tidy.{kind}] says; turn the ratchet (entry, now): {slack}"


def test_files_keep_to_their_size() -> None:
    in_ratchet("file_lines", {module.name: module.lines for module in modules()}, FILE_LINES)


def largest(tops: tuple[str, ...], size: Callable[[Module, Function], int]) -> dict[str, int]:
    """`file:function` and its size; of several functions of that name the largest."""
    sizes: dict[str, int] = {}
    for module in modules(*tops):
        for function in module.functions():
            name = f"{module.name}:{function.name}"
            sizes[name] = max(sizes.get(name, 0), size(module, function))
    return sizes


def test_functions_keep_to_their_size() -> None:
    in_ratchet("function_lines", largest((), lambda module, function: module.code_lines(function)), FUNCTION_LINES)


def test_more_than_two_arguments_are_named_ones() -> None:
    in_ratchet("positional_arguments", largest(("gateway",), lambda _, function: positional(function)), POSITIONAL)


def positional(function: Function) -> int:
    names = {argument.arg for argument in (*function.args.posonlyargs, *function.args.args)} - {"self", "cls"}
    return len(names) - function.name.startswith("_")


def test_every_module_begins_by_saying_what_it_is_for() -> None:
    silent = [m.name for m in modules() if m.text.strip() and not re.match(r'"""\S', m.text)]
    assert not silent


def test_names_say_something() -> None:
    nameless = [module.name for module in modules() if Path(module.name).stem in NAMELESS]
    nameless += [str(f.relative_to(ROOT)) for f in (ROOT / "gateway").rglob("*") if f.is_dir() and f.name in NAMELESS]
    assert not nameless


def statements(module: Module) -> Iterator[str]:
    documentation = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Constant) or id(node) in documentation:
            continue
        if isinstance(node.value, str) and STATEMENT.match(node.value):
            yield f"{module.name}:{node.lineno}"


def test_sql_stays_in_the_rooms_that_may_speak_it() -> None:
    rooms = tuple(agreed()["sql"])
    stray = [place for module in modules("gateway") if not _may_speak_sql(module.name, rooms)
             for place in statements(module)]  # fmt: skip
    assert not stray
    idle = [room for room in rooms if not any(list(statements(m)) for m in modules("gateway") if m.name == room)]
    assert not idle, "these no longer need their entry in [tool.tidy] sql"


def _may_speak_sql(name: str, rooms: tuple[str, ...]) -> bool:
    return name in rooms or name.endswith("/store.py") or "/store/" in name or name.startswith(
        ("gateway/database/", "gateway/ledger/")
    )  # fmt: skip


def test_exceptions_are_caught_by_name() -> None:
    """`except Exception` is for the loop of a worker, where it is logged and counted."""
    loops = set(agreed()["catch_all"])
    found = {
        module.name
        for module in modules("gateway")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and _catches_all(node)
    }
    assert found == loops


def _catches_all(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException"))
               for kind in caught)  # fmt: skip


def test_no_float_comes_near_money() -> None:
    near = [
        f"{module.name}:{call.lineno}"
        for module in modules("gateway")
        for call in module.calls()
        if isinstance(call.func, ast.Name) and call.func.id in ("float", "round") and MONEY.search(ast.unparse(call))
    ]
    near += [
        f"{module.name}:{node.lineno}"
        for module in modules("gateway")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and MONEY.search(ast.unparse(node))
    ]
    assert not near


def test_capabilities_do_not_know_each_other() -> None:
    """import-linter says it too; this one also sees an import inside a function or under TYPE_CHECKING."""
    known = [
        f"{module.name} knows {other}"
        for module in modules("gateway")
        if (own := Path(module.name).parts[1]) in CAPABILITIES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for other in CAPABILITIES - {own}
        if node.module.startswith(f"gateway.{other}")
    ]
    assert not known


def test_no_rule_knows_a_partner_by_name() -> None:
    partners = {folder.name for folder in (ROOT / "partners").iterdir() if folder.is_dir()}
    assert partners
    named = [
        f"{module.name}:{node.lineno}"
        for module in modules("gateway")
        if not module.name.startswith("gateway/demo/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Compare)
        for part in (node.left, *node.comparators)
        if isinstance(part, ast.Constant) and part.value in partners
    ]
    assert not named


def metric_calls() -> Iterator[tuple[str, ast.Call]]:
    for module in modules("gateway"):
        for call in module.calls():
            if re.fullmatch(r"metrics\.(count|observe|gauge|probe)", ast.unparse(call.func)):
                yield f"{module.name}:{call.lineno}", call


def test_every_metric_that_is_used_is_declared_with_these_labels() -> None:
    wrong = []
    for place, call in metric_calls():
        name = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None
        labels = {keyword.arg for keyword in call.keywords if keyword.arg} - {"amount"}
        if name not in METRICS or labels != set(METRICS[str(name)].labels):
            wrong.append(f"{place}: {name} {sorted(labels)}")
    assert not wrong


LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


def test_logs_hold_allowed_keys_and_fixed_events() -> None:
    wrong = []
    for module in modules("gateway"):
        for call in module.calls():
            if not (isinstance(call.func, ast.Attribute) and call.func.attr in LOG_METHODS):
                continue
            if ast.unparse(call.func.value) not in ("log", "logger"):
                continue
            keys = {keyword.arg for keyword in call.keywords if keyword.arg} - {"exc_info"}
            event = call.args[0] if call.args else None
            if keys - log.KEYS or not isinstance(event, ast.Constant):
                wrong.append(f"{module.name}:{call.lineno}: {sorted(keys - log.KEYS)}")
    assert not wrong


@pytest.mark.parametrize("name", ["requirements.lock", "requirements.runtime.lock"])
def test_a_lock_holds_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "index-url" not in text
    pinned = [block for block in re.split(r"\n(?=\S)", text) if block.strip() and not block.startswith("#")]
    assert all("==" in block and "--hash=sha256:" in block for block in pinned)


def test_the_runtime_lock_is_a_part_of_the_whole_one() -> None:
    whole = set((ROOT / "requirements.lock").read_text().splitlines())
    assert set((ROOT / "requirements.runtime.lock").read_text().splitlines()) <= whole


def test_what_the_project_asks_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    locked = set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    names = {re.split(r"[\[<>=! ]", requirement)[0].lower().replace("_", "-") for requirement in asked}
    assert names <= locked


def test_every_dependency_has_its_reason_its_keeper_and_a_way_out() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {re.split(r"[\[<>=! ]", requirement)[0].lower() for requirement in project["dependencies"]}
    table = (DECISIONS / "0002-postgresql-only-store-and-migrations.md").read_text()
    reasoned = {row[1]: row[0] for row in re.finditer(r"^\| ([a-z0-9-]+) \|(.+\|){3}$", table, re.MULTILINE)}
    assert set(reasoned) - {"package"} == asked


DECISIONS = ROOT / "docs" / "decisions"


def test_decisions_are_numbered_once_listed_and_complete() -> None:
    records = sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")
    assert all(re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", record.name) for record in records)
    numbers = [record.name[:4] for record in records]
    assert len(numbers) == len(set(numbers))
    listed = (DECISIONS / "README.md").read_text()
    assert [record.name for record in records if f"({record.name})" not in listed] == []


@pytest.mark.parametrize("record", sorted(DECISIONS.glob("0*.md")), ids=lambda path: path.stem)
def test_a_decision_has_context_decision_consequences_and_alternatives(record: Path) -> None:
    text = record.read_text()
    assert re.match(rf"# 0*{int(record.name[:4])}[.: ]", text)
    for heading in ("Context", "Decision", "Consequences", "Alternatives"):
        assert re.search(rf"^## {heading}", text, re.MULTILINE), heading


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")]
    broken = [
        f"{document.relative_to(ROOT)} → {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert not broken


def test_nothing_names_the_machine_it_was_written_on() -> None:
    spoken = re.compile(r"(?<![\w.])/(home|root|Users|work)/\w+/|index-url\s*=|//[\w.]+/simple/?", re.IGNORECASE)
    kinds = {".py", ".md", ".toml", ".yaml", ".yml", ".sql", ".html", ".sh", ".lock"}
    elsewhere = {".venv", ".parasol", ".git"}
    told = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*")
        if path.suffix in kinds and not elsewhere & set(path.parts) and spoken.search(path.read_text(encoding="utf-8"))
    ]
    assert not told
