"""`parasol run`: the demonstration's status is ours, the gateway is gone afterwards, a failed start shows its log."""

import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.run import GatewayEnded, Premises, run
from gateway.serve import is_ready

ASK = "import sys, urllib.request as u; sys.exit(u.urlopen(sys.argv[1] + '/readyz').status != 200 or int(sys.argv[2]))"


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """`run` owns its process's SIGTERM; here the process is pytest's."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def premises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Premises:
    monkeypatch.setenv("PARASOL_DATA_DIR", str(Path(__file__).parents[2]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    return Premises("127.0.0.1", port, tmp_path / "home", workers=1)


@pytest.mark.parametrize("status", [0, 3])
def test_the_demonstration_meets_a_ready_gateway_and_its_status_is_ours(premises: Premises, status: int) -> None:
    assert run(premises, demo=[sys.executable, "-c", ASK, premises.address, str(status)], stay=False) == status
    assert not is_ready(premises.address)
    assert not (premises.home / "postgres" / "postmaster.pid").exists()


def test_a_second_run_keeps_the_log_of_the_first(premises: Premises) -> None:
    """What went wrong yesterday is looked for today."""
    ends = [sys.executable, "-c", "raise SystemExit(0)"]
    run(premises, demo=ends, stay=False)
    first = premises.log.read_bytes()
    run(premises, demo=ends, stay=False)
    assert first
    assert premises.log.read_bytes().startswith(first)
    assert len(premises.log.read_bytes()) > len(first)


def test_a_gateway_that_cannot_start_shows_the_end_of_its_log(
    premises: Premises, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARASOL_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(GatewayEnded, match=r"(?s)gateway.log.*The database cannot be used"):
        run(premises, demo=[sys.executable, "-c", "raise SystemExit(0)"], stay=False)
