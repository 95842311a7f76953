"""The whole journey as a newcomer sees it, twice: real processes, real HTTP, every check; and what a partner keeps."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from gateway.serve import is_ready
from tests.conftest import ROOT, memory_folder

PARASOL = str(Path(sys.executable).with_name("parasol"))
START_S, DEMO_S = 60, 240


@dataclass(frozen=True, slots=True)
class Told:
    """What the demonstration said, the first and the second time, and left behind."""

    status: int
    output: str
    again: "subprocess.CompletedProcess[str]"
    open_day: dict[str, str]
    home: Path

    def statements(self) -> list[Path]:
        return sorted((self.home / "downloads").glob("*-stm_*.json"))


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """Against a gateway of two workers; the second time with a day that begins at 16:00 UTC, as Shanghai's do."""
    with tempfile.TemporaryDirectory(prefix="parasol-story-", dir=memory_folder()) as folder:
        Path(folder).chmod(0o755)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        serve = [PARASOL, "serve", "--sandbox", "--home", folder, "--port", str(port), "--workers", "2"]
        with (Path(folder) / "log").open("wb") as log:
            gateway = subprocess.Popen(serve, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
        try:
            deadline = time.monotonic() + START_S
            while not is_ready(address):
                assert gateway.poll() is None, (Path(folder) / "log").read_text()
                assert time.monotonic() < deadline, "it never became ready"
            demo = [PARASOL, "demo", "--url", address, "--home", folder]
            day = [*demo, "--parking-day", str(shanghai_day(Path(folder))), "--purchases", "nowhere.txt"]
            done, again = [
                subprocess.run(
                    command, capture_output=True, text=True, timeout=DEMO_S, env={**os.environ, "COLUMNS": "120"},
                    check=False,
                )
                for command in (demo, day)
            ]  # fmt: skip
            yield Told(done.returncode, done.stdout + done.stderr, again, open_day(address, Path(folder)), Path(folder))
        finally:
            gateway.terminate()
            gateway.wait(30)


def shanghai_day(folder: Path) -> Path:
    """Twelve stays of two hours in one car park, the last one left a minute before the day ends."""
    begin = datetime(2021, 9, 30, 16, 0, tzinfo=UTC)
    rows = ["timestamp,a"]
    for hour in range(0, 24, 2):
        rows += [
            f"{(begin + timedelta(hours=hour, minutes=m)).isoformat()},{free}" for m, free in ((0, 9), (1, 8), (119, 9))
        ]
    path = folder / "day.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def open_day(address: str, home: Path) -> dict[str, str]:
    key = json.loads((home / "sandbox" / "operators.json").read_text())[0]["key"]
    answer = httpx.get(f"{address}/admin/v1/days", headers={"Authorization": f"Bearer {key}"}, trust_env=False)
    found: dict[str, str] = answer.json()["Data"]
    return found


def test_a_second_run_says_to_which_date_it_moved_and_closes_no_day_after_it(told: Told) -> None:
    moved = re.search(r"The business date moved from (\S+) to (\S+)\.", told.again.stdout)
    assert moved is not None, told.again.stdout
    before, after = (date.fromisoformat(day) for day in moved.groups())
    assert f"The business date is {before}" in told.output
    assert (after - before).days == 1
    assert told.open_day["BusinessDate"] == after.isoformat()
    assert told.open_day["Day"] == (after + timedelta(days=1)).isoformat(), "that date was closed, and nothing later"


def test_a_day_that_begins_on_the_utc_day_before_goes_through(told: Told) -> None:
    assert told.again.returncode == 0, told.again.stdout + told.again.stderr
    assert re.search(r"parking sessions · 停车 +│ 12 ", told.again.stdout)
    assert "Traceback" not in told.again.stderr


def test_a_first_stay_costs_one_fen(told: Told) -> None:
    assert re.search(r"first · 首次 +│ 15\.00 │ 14\.99 │ 0\.01 ", told.output)


def test_every_check_of_the_journey_holds(told: Told) -> None:
    assert told.status == 0, told.output
    assert " checks held, 0 failed" in told.output


def test_a_file_that_is_not_there_is_said_so_and_a_small_set_is_made(told: Told) -> None:
    assert "nowhere.txt is not there: a small" in told.again.stdout


def test_the_partners_statements_verify_with_the_bank_away(told: Told) -> None:
    found = told.statements()
    assert [path.name.partition("-")[0] for path in found] == ["parkco", "parkco", "shopco", "shopco"]
    jwks = told.home / "downloads" / "bank-jwks.json"
    for path in found:
        partner_id, _, _ = path.name.partition("-")
        assert verify(path, "--jwks", jwks, "--partner", partner_id) == 0
    assert verify(found[0], "--jwks", jwks, "--partner", "shopco") == 1, "it is another partner's"
    assert verify(found[0]) == 3, "whoever names no key is told that the signer is unknown"


def test_a_copy_with_one_digit_changed_is_refused(told: Told, tmp_path: Path) -> None:
    forged = tmp_path / "forged.json"
    content = told.statements()[0].read_bytes()
    at = content.rindex(b'"net_minor":') + len(b'"net_minor":')
    forged.write_bytes(content[:at] + (b"1" if content[at : at + 1] != b"1" else b"2") + content[at + 1 :])
    assert verify(forged) == 1


def test_a_customers_phone_or_plate_is_in_no_statement_and_no_log(told: Told) -> None:
    kept = (told.home / "log").read_text() + "".join(path.read_text() for path in told.statements())
    assert "+8613" not in kept
    assert "沪A" not in kept


def test_the_sandbox_credentials_are_just_what_a_client_needs(told: Told) -> None:
    path = told.home / "sandbox" / "parkco.json"
    credentials = json.loads(path.read_text())
    assert credentials.keys() == {"issuer", "client_id", "private_jwks", "redirect_uris", "scopes"}
    assert path.stat().st_mode & 0o077 == 0


def verify(*arguments: object) -> int:
    return subprocess.run([PARASOL, "verify", *map(str, arguments)], capture_output=True, check=False).returncode
