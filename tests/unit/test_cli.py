"""The command line: help that reads well, failures as sentences, documents shown and put into force."""

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.call import Operator
from gateway.cli import app
from gateway.database import Database
from gateway.provision import NotReadyToServe, check_provisioned, enrol_operator
from tests.conftest import ROOT, settings_for

PARASOL = str(Path(sys.executable).with_name("parasol"))
WHY = ["--reason", "test"]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line in an empty folder and an environment without settings."""
    for name in [name for name in os.environ if name.startswith("PARASOL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A copy of partners/ and policies/ to change."""
    for name in ("partners", "policies"):
        shutil.copytree(ROOT / name, tmp_path / "agreed" / name)
    return tmp_path / "agreed"


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def said(result: Result) -> str:
    """A failure is one sentence on standard error, without a trace."""
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert result.stderr.startswith("parasol: ")
    return result.stderr


def test_help_names_every_command_with_its_purpose(command: CliRunner) -> None:
    shown = command.invoke(app, ["--help"]).output
    for name in ("run", "serve", "migrate", "diff", "apply", "version"):
        assert f" {name} " in shown
        own = command.invoke(app, [name, "--help"])
        assert own.exit_code == 0


@pytest.mark.parametrize("name", [["run", "--once"], ["serve", "--sandbox"]], ids=["run", "serve"])
def test_a_busy_port_is_said_with_what_to_do(command: CliRunner, name: list[str], busy_port: int) -> None:
    sentence = said(command.invoke(app, [*name, "--port", str(busy_port)]))
    assert f"Port {busy_port} on 127.0.0.1 is in use" in sentence
    assert f"PORT={busy_port + 1}" in sentence


def test_an_address_of_nobody_is_said(command: CliRunner) -> None:
    assert "--host 127.0.0.1" in said(command.invoke(app, ["serve", "--sandbox", "--host", "203.0.113.1"]))


def test_serving_without_a_database_says_how_to_name_one(command: CliRunner) -> None:
    assert "PARASOL_DATABASE_URL" in said(command.invoke(app, ["serve", "--port", "18099"]))


@pytest.mark.parametrize("line", [["migrate"], ["diff"], ["apply", *WHY]])
def test_a_command_without_its_database_says_how_to_name_one(command: CliRunner, line: list[str]) -> None:
    assert "PARASOL_DATABASE_URL" in said(command.invoke(app, line))


def test_a_setting_that_does_not_exist_is_named(command: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARASOL_DATABSE_URL", "postgresql://")
    assert "PARASOL_DATABSE_URL is not a setting" in said(command.invoke(app, ["migrate"]))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("PARASOL_DATABASE_URL", "postgresql://host:port/name", "postgresql://USER"),
        ("PARASOL_DATABASE_URL", "postgresql://[::1/name", "postgresql://USER"),
        ("PARASOL_MIGRATE_URL", "mysql://host/name", "postgresql://USER"),
        ("PARASOL_LOG_LEVEL", "loud", "debug, info"),
        ("PARASOL_ISSUER", "bank.example", "https://"),
        ("PARASOL_ISSUER", "https://bank.example/gateway", "without a path"),
        ("PARASOL_TRUSTED_PROXIES", "proxy.bank.example", "10.0.0.0/8"),
        ("PARASOL_METRICS_PORT", "99999", "65535"),
        ("PARASOL_POOL_SIZE", "0", "1"),
    ],
)
def test_a_setting_that_cannot_be_is_named_before_anything_starts(
    command: CliRunner, monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: str
) -> None:
    """Each was a trace, or workers that ended as they started."""
    monkeypatch.setenv(name, value)
    sentence = said(command.invoke(app, ["migrate"]))
    assert f"{name} cannot be used: " in sentence
    assert wanted in sentence


def test_a_database_at_no_host_is_said(command: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", "postgresql://nobody.invalid/none")
    assert "Is it running" in said(command.invoke(app, ["diff", str(ROOT)]))


@pytest.mark.parametrize("line", [["serve", "--sandbox"], ["run", "--once"], ["reload"]], ids=lambda line: line[0])
def test_a_home_that_is_a_file_is_said(command: CliRunner, tmp_path: Path, line: list[str]) -> None:
    (tmp_path / "file").write_text("")
    port = [] if line == ["reload"] else ["--port", "18097"]
    assert "--home" in said(command.invoke(app, [*line, *port, "--home", str(tmp_path / "file")]))


def test_a_home_whose_database_is_half_made_is_said_with_what_to_do(command: CliRunner, tmp_path: Path) -> None:
    """initdb's failure was a trace."""
    half = tmp_path / "home" / "postgres"
    half.mkdir(parents=True)
    (half / "base").write_text("of a start that was cut off")
    sentence = said(command.invoke(app, ["serve", "--sandbox", "--port", "18096", "--home", str(tmp_path / "home")]))
    assert f"{half}: remove that folder" in sentence
    assert sentence.count("\n") == 1


def test_a_file_that_cannot_be_read_is_named(
    command: CliRunner, monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", database_url)
    (tmp_path / "kek").mkdir()
    sentence = said(command.invoke(app, ["serve", "--port", "18095", "--home", str(tmp_path)]))
    assert f"{tmp_path}/kek cannot be used: Is a directory" in sentence


@pytest.mark.parametrize(
    "arguments",
    [["Olga", "Olga W"], ["o", "Olga W"], ["olga-w", ""], ["olga-w", "Olga\nW"], ["olga-w", "O" * 101],
     ["olga-w", "Olga W", "--reason", "\udcff"]],
)  # fmt: skip
def test_a_person_who_cannot_be_enrolled_is_refused_before_the_database_is_asked(
    command: CliRunner, arguments: list[str]
) -> None:
    """The database's own refusal was told as a database that does not run."""
    result = command.invoke(app, ["enrol", "--role", "maker", *WHY, *arguments])
    assert (result.exit_code, "Invalid value" in result.stderr) == (2, True)


async def test_a_revoked_operator_has_no_key_until_enrolled_again(
    command: CliRunner, monkeypatch: pytest.MonkeyPatch, database_url: str, database: Database
) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", database_url)
    line = ["revoke-operator", "ops-checker", *WHY]
    assert (await asyncio.to_thread(command.invoke, app, line)).exit_code == 0
    again = await asyncio.to_thread(command.invoke, app, line)
    assert (again.exit_code, "has no key" in again.stderr) == (2, True)
    async with database.connection() as conn:
        assert await conn.fetchval("SELECT state FROM operator WHERE id = 'ops-checker'") == "revoked"
        told = await conn.fetchrow("SELECT actor, subject, detail FROM audit WHERE action = 'operator.revoke'")
    assert (told["actor"], told["subject"], told["detail"]["reason"]) == ("command line", "ops-checker", "test")
    enrol = ["enrol", "ops-checker", "Olga", "--role", "checker", *WHY]
    assert (await asyncio.to_thread(command.invoke, app, enrol)).exit_code == 0


def test_a_database_that_does_not_answer_is_said(command: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    for name in ("migrate", "diff"):
        assert "Is it running" in said(command.invoke(app, [name, str(ROOT)] if name == "diff" else [name]))


def test_migrating_a_current_schema_changes_nothing(
    command: CliRunner, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", database_url)
    result = command.invoke(app, ["migrate"])
    assert (result.exit_code, result.output) == (0, "Nothing to apply: the schema is current.\n")


def test_a_difference_is_shown_then_applied_then_gone(
    command: CliRunner, monkeypatch: pytest.MonkeyPatch, database_url: str, documents: Path
) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", database_url)
    assert command.invoke(app, ["diff", str(documents)]).exit_code == 0
    partner = documents / "partners" / "parkco" / "partner.toml"
    partner.write_text(partner.read_text().replace('name = "', 'name = "New ', 1))
    shown = command.invoke(app, ["diff", str(documents)])
    assert (shown.exit_code, "changed" in shown.output, "New " in shown.output) == (1, True, True)
    assert command.invoke(app, ["apply", str(documents), *WHY]).exit_code == 0
    assert command.invoke(app, ["diff", str(documents)]).exit_code == 0


@pytest.mark.parametrize("reason", ["", " ", "x" * 301, "two\nlines", "approved \u202ednim ruoy"])
def test_a_reason_that_says_nothing_or_cannot_be_read_is_refused(command: CliRunner, reason: str) -> None:
    result = command.invoke(app, ["apply", str(ROOT), "--reason", reason])
    assert result.exit_code == 2
    assert "--reason" in result.output


def test_a_bad_document_is_refused_whole_with_file_key_and_reason(
    command: CliRunner, monkeypatch: pytest.MonkeyPatch, database_url: str, documents: Path
) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", database_url)
    partner = documents / "partners" / "parkco" / "partner.toml"
    partner.write_text(partner.read_text() + "\n[favourite]\ncolour = 1\n")
    sentence = said(command.invoke(app, ["apply", str(documents), *WHY]))
    assert "parkco/partner.toml" in sentence
    assert "favourite" in sentence
    assert command.invoke(app, ["diff", str(ROOT)]).exit_code == 0


@pytest.mark.parametrize(("name", "reason"), [("diff", []), ("apply", WHY)])
def test_the_folder_of_documents_is_that_of_serve(
    command: CliRunner,
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
    documents: Path,
    name: str,
    reason: list[str],
) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", database_url)
    monkeypatch.setenv("PARASOL_DATA_DIR", str(documents))
    assert command.invoke(app, [name, *reason]).exit_code == 0


@pytest.mark.parametrize(("name", "reason"), [("diff", []), ("apply", WHY)])
def test_a_folder_without_documents_is_named(
    command: CliRunner, monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path, name: str, reason: list[str]
) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", database_url)
    assert f"{tmp_path}/policies" in said(command.invoke(app, [name, *reason]))


def test_what_differs_can_be_read_by_a_program(
    command: CliRunner, monkeypatch: pytest.MonkeyPatch, database_url: str, documents: Path
) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", database_url)
    partner = documents / "partners" / "parkco" / "partner.toml"
    partner.write_text(partner.read_text().replace('name = "', 'name = "New ', 1))
    told = json.loads(command.invoke(app, ["diff", str(documents), "--json"]).stdout)
    assert [(each["Step"], each["Id"]) for each in told["Document"]] == [("changed", "parkco")]
    assert told["Document"][0]["Difference"][0]["Key"] == "$.partner.name"


def test_the_version_is_said_by_an_option_too(command: CliRunner) -> None:
    assert command.invoke(app, ["--version"]).output == command.invoke(app, ["version"]).output


def test_serving_without_its_key_file_says_where_to_put_it(
    command: CliRunner, monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", database_url)
    sentence = said(command.invoke(app, ["serve", "--port", "18098", "--home", str(tmp_path / "none")]))
    assert f"{tmp_path}/none/kek" in sentence


async def test_serving_without_operators_says_how_to_enrol_one(
    database_url: str, database: Database, home: Path
) -> None:
    await database_without(database, "operator")
    with pytest.raises(NotReadyToServe, match="parasol enrol"):
        await check_provisioned(settings_for(home, database_url))
    await enrol_operator(database, Operator("olga", "Olga", "maker"), actor="test", reason="test")
    await check_provisioned(settings_for(home, database_url))


async def database_without(database: Database, table: str) -> None:
    async with database.connection() as conn:
        await conn.execute(f"DELETE FROM {table}")


def test_a_demonstration_without_a_gateway_says_so(command: CliRunner, home: Path, template: str) -> None:
    for address in ("http://gateway.test", "http://127.0.0.1:1", "nonsense"):
        assert "--url" in said(command.invoke(app, ["demo", "--url", address, "--home", str(home)]))


def test_a_demonstration_with_a_wrong_home_says_so(command: CliRunner, tmp_path: Path) -> None:
    assert "--home" in said(command.invoke(app, ["demo", "--home", str(tmp_path)]))


@pytest.mark.parametrize("entry", ["{}", "[]", "1", '{"issuer": "http://127.0.0.1:1", "client_id": "x", "scopes": []}'])
def test_a_demonstration_with_credentials_of_something_else_says_so(
    command: CliRunner, tmp_path: Path, entry: str
) -> None:
    folder = tmp_path / "sandbox"
    folder.mkdir()
    for name in ("parkco", "shopco"):
        (folder / f"{name}.json").write_text(entry)
    operators = [{"id": name, "key": "pop_x"} for name in ("ops-maker", "ops-checker")]
    (folder / "operators.json").write_text(json.dumps(operators))
    assert "name another --home" in said(command.invoke(app, ["demo", "--home", str(tmp_path)]))
