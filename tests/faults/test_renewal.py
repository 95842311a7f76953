"""`parasol reload` at odd moments: whom it signals, which renewal it waits for, and what the home's file must bear."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.crew import RENEWS, Account
from gateway.renewal import NobodyServes, RenewalFailed, renew, standing
from gateway.serve import sole_user


@pytest.fixture
def asked() -> Iterator[asyncio.Event]:
    """Set when this process, which plays the gateway, is asked to renew."""
    heard = asyncio.Event()
    before = signal.signal(signal.SIGHUP, lambda *_: heard.set())
    yield heard
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("first", "second"), [("failed", "done"), ("done", "failed")])
async def test_a_reload_during_a_reload_waits_for_a_renewal_of_its_own(
    tmp_path: Path, asked: asyncio.Event, first: str, second: str
) -> None:
    """It was told how the other's had gone, whose workers may be of the version of before."""
    with sole_user(tmp_path) as lock:
        account = Account(lock)
        account.write(RENEWS)
        ours = asyncio.create_task(asyncio.to_thread(renew, tmp_path))
        await asyncio.sleep(0)
        account.write_renewal(first)
        async with asyncio.timeout(10):
            await asked.wait()
        account.write(RENEWS)
        account.write_renewal(second)
        if second == "done":
            assert "new workers" in await ours
        else:
            with pytest.raises(RenewalFailed):
                await ours


def test_a_gateway_that_starts_is_not_taken_for_the_one_of_before(tmp_path: Path) -> None:
    """Its home's file still named the last one's pid, which may be anybody's by now, and that was signalled."""
    with sole_user(tmp_path) as lock:
        Account(lock).write("serves")
        assert standing(tmp_path).pid == os.getpid()
    with sole_user(tmp_path), pytest.raises(NobodyServes):
        standing(tmp_path)


def test_a_full_disk_ends_no_gateway_that_tells_how_it_stands() -> None:
    with open("/dev/full", "r+") as full:
        Account(full).write("serves")


def test_whoever_reads_while_it_is_written_reads_a_whole_line(tmp_path: Path) -> None:
    """Between the old line's end and the new one's a reader found nothing, and a reload that went well had failed."""
    reads = (
        "import sys, pathlib; p = pathlib.Path(sys.argv[1]); print({len(p.read_text().split()) for _ in range(20000)})"
    )
    with sole_user(tmp_path) as lock:
        account = Account(lock)
        account.write("serves")
        command = [sys.executable, "-c", reads, str(tmp_path / "serve.lock")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            while reader.poll() is None:
                account.write_renewal("done")
            assert reader.stdout is not None
            assert reader.stdout.read() == "{3}\n"
