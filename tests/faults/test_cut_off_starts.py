"""A first start that is told to end at an odd moment leaves nothing running, and a home that starts the next time."""

import signal
from pathlib import Path

import pytest

from tests.faults.serving import EXIT_S, eventually, is_gone, serving, starting


@pytest.mark.parametrize("moment", ["postgres.draft/base", "postgres/postmaster.pid", "kek"])
@pytest.mark.parametrize("impatient", [signal.SIGTERM, signal.SIGINT], ids=["once", "twice"])
def test_a_home_whose_first_start_was_cut_off_starts_the_next_time(
    tmp_path: Path, moment: str, impatient: signal.Signals
) -> None:
    """initdb, cut off, left a folder that nothing could start; a second signal left PostgreSQL running."""
    with starting(tmp_path) as cut:
        eventually(lambda: (cut.home / moment).exists(), seen=cut.log)
        cut.process.terminate()
        if impatient is signal.SIGINT:
            cut.process.send_signal(impatient)
        assert cut.process.wait(EXIT_S) != 0
        postmaster = cut.home / "postgres" / "postmaster.pid"
        if postmaster.exists():
            pid = cut.postmaster()
            eventually(lambda: is_gone(pid) or not postmaster.exists())
    assert "Traceback" not in cut.log()
    with serving(tmp_path) as again:
        assert again.is_ready()
