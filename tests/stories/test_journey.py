"""The whole journey as a newcomer sees it: real processes, real HTTP, every check; and what a partner then keeps."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.serve import is_ready
from tests.conftest import ROOT, memory_folder

PARASOL = str(Path(sys.executable).with_name("parasol"))
START_S, DEMO_S = 60, 240


@dataclass(frozen=True, slots=True)
class Told:
    """What the demonstration said and left behind."""

    status: int
    output: str
    home: Path

    def statements(self) -> list[Path]:
        return sorted((self.home / "downloads").glob("*-stm_*.json"))


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """The journey with a replay whose files are not there, against a gateway of two workers."""
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
            demo = [PARASOL, "demo", "--url", address, "--home", folder, "--parking-day", "nowhere.csv",
                    "--purchases", "nowhere.txt"]  # fmt: skip
            done = subprocess.run(
                demo, capture_output=True, text=True, timeout=DEMO_S, env={**os.environ, "COLUMNS": "120"}, check=False
            )
            yield Told(done.returncode, done.stdout + done.stderr, Path(folder))
        finally:
            gateway.terminate()
            gateway.wait(30)


def test_every_check_of_the_journey_holds(told: Told) -> None:
    assert told.status == 0, told.output
    assert " checks held, 0 failed" in told.output


def test_files_that_are_not_there_are_said_so_and_a_small_day_is_made(told: Told) -> None:
    for name in ("nowhere.csv", "nowhere.txt"):
        assert f"{name} is not there: a small" in told.output


def test_the_partners_statements_verify_with_the_bank_away(told: Told) -> None:
    found = told.statements()
    assert [path.name.partition("-")[0] for path in found] == ["parkco", "shopco"]
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
