"""Dockerfile, compose.yaml and Prometheus's files stay valid and safe, on a machine without containers too."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import __version__
from gateway.metrics.declared import METRICS
from gateway.settings import read_settings
from tests.tidy.house import ROOT

INSTRUCTIONS = {"FROM", "RUN", "CMD", "LABEL", "EXPOSE", "ENV", "COPY", "ENTRYPOINT", "VOLUME", "USER", "WORKDIR",
                "ARG", "STOPSIGNAL", "HEALTHCHECK", "SHELL"}  # fmt: skip
SERVICE_KEYS = {"build", "image", "command", "environment", "ports", "volumes", "depends_on", "restart", "read_only",
                "tmpfs", "cap_drop", "security_opt", "stop_grace_period", "healthcheck"}  # fmt: skip


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), with continued lines joined and comments gone."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def last_stage() -> list[tuple[str, str]]:
    steps = instructions()
    start = max(index for index, (word, _) in enumerate(steps) if word == "FROM")
    return steps[start:]


def of(steps: list[tuple[str, str]], word: str) -> list[str]:
    return [rest for name, rest in steps if name == word]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return loaded


def test_the_image_is_built_in_stages_from_pinned_versions() -> None:
    assert {word for word, _ in instructions()} <= INSTRUCTIONS
    stages = of(instructions(), "FROM")
    assert len(stages) >= 2
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]* AS \w+", stage) for stage in stages)


def test_the_image_installs_what_the_runtime_lock_names_and_nothing_else() -> None:
    installs = [rest for rest in of(instructions(), "RUN") if "pip install" in rest]
    assert len(installs) == 1
    assert "--require-hashes -r /requirements.runtime.lock" in installs[0]
    assert not any("pip install" in rest for rest in of(last_stage(), "RUN"))


def test_the_image_does_not_run_as_root() -> None:
    user = of(last_stage(), "USER")[-1]
    assert user.isdigit()
    assert int(user) >= 10_000
    assert f"--uid {user}" in " ".join(of(last_stage(), "RUN"))


def test_the_image_says_whether_it_lives() -> None:
    (check,) = of(last_stage(), "HEALTHCHECK")
    assert "/healthz" in check
    assert re.search(r"CMD \[.*\]$", check)
    port = of(last_stage(), "EXPOSE")[0]
    assert f":{port}'" in check
    assert f'"{port}"' in of(last_stage(), "CMD")[0]


def test_everything_that_the_image_copies_is_here_and_let_through() -> None:
    stages = {stage.rpartition(" AS ")[2] for stage in of(instructions(), "FROM")}
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for copied in of(instructions(), "COPY"):
        if stage := re.match(r"--from=(\w+) ", copied):
            assert stage[1] in stages
            continue
        source = copied.partition(" ")[0]
        assert (ROOT / source).exists(), source
        assert source in let_through


def test_the_image_has_the_code_and_the_documents_that_it_serves() -> None:
    copied = {rest.partition(" ")[0] for rest in of(last_stage(), "COPY")}
    assert {"gateway", "openapi", "partners", "policies"} <= copied


def test_compose_has_gateway_database_and_prometheus(compose: dict[str, Any]) -> None:
    assert set(compose) <= {"name", "services", "volumes"}
    assert set(compose["services"]) == {"gateway", "database", "prometheus"}
    for service in compose["services"].values():
        assert set(service) <= SERVICE_KEYS
        assert set(service.get("depends_on", ())) <= set(compose["services"])
    assert compose["services"]["gateway"]["image"].endswith(f":{__version__}")
    assert re.fullmatch(r"postgres:18(\.\d+)?-\w+", compose["services"]["database"]["image"])


def test_compose_waits_for_a_healthy_database(compose: dict[str, Any]) -> None:
    assert compose["services"]["gateway"]["depends_on"]["database"] == {"condition": "service_healthy"}
    assert "pg_isready" in compose["services"]["database"]["healthcheck"]["test"][1]


def test_compose_publishes_on_this_machine_only_and_holds_no_password(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert "${PARASOL_DB_PASSWORD:?" in compose["services"]["database"]["environment"]["POSTGRES_PASSWORD"]


def test_compose_gives_the_gateway_no_more_than_it_needs(compose: dict[str, Any]) -> None:
    gateway = compose["services"]["gateway"]
    assert gateway["read_only"] is True
    assert gateway["cap_drop"] == ["ALL"]
    assert gateway["security_opt"] == ["no-new-privileges:true"]


def test_compose_sets_only_what_the_gateway_knows(compose: dict[str, Any]) -> None:
    given = compose["services"]["gateway"]["environment"]
    read_settings({key: re.sub(r"\$\{[^}]*\}", "chosen", str(value)) for key, value in given.items()})


def test_every_volume_and_file_of_compose_exists(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).is_file() if source.startswith("./") else source in compose["volumes"]


def test_prometheus_scrapes_the_gateway_where_compose_puts_it(compose: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "ops" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    host, _, port = job["static_configs"][0]["targets"][0].partition(":")
    assert host in compose["services"]
    assert port in compose["services"][host]["command"]
    assert job["metrics_path"] == "/metrics"
    assert all((ROOT / "ops" / name).exists() for name in config["rule_files"])


def test_alerts_ask_for_metrics_that_exist_and_say_what_to_do() -> None:
    groups = yaml.safe_load((ROOT / "ops" / "alerts.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]
        for name in re.findall(r"\b(?:parasol|http)_\w+", rule["expr"]):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in METRICS, name


@pytest.mark.parametrize(
    ("kind", "file"), [("config", "prometheus.yml"), ("rules", "alerts.yml")], ids=["config", "rules"]
)
def test_promtool_accepts_the_files(kind: str, file: str, tmp_path: Path) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus)")
    checked = subprocess.run([tool, "check", kind, str(ROOT / "ops" / file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr + checked.stdout
