"""`parasol reload`: ask the gateway of a home folder to renew its workers, and say how that went."""

import fcntl
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from gateway.crew import RENEW_S, RENEWS, WORKERS_S
from gateway.port import CannotServe

PATIENCE_S = RENEW_S + WORKERS_S + 20.0  # hub and back office besides
POLL_S = 0.1


class NobodyServes(CannotServe):
    """There is nothing to reload."""

    def __init__(self, home: Path) -> None:
        super().__init__(f"No gateway serves from {home}: start one with `parasol serve`, or name its --home")


class RenewalFailed(CannotServe):
    """The old workers serve on."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the gateway says of itself in its lock file."""

    pid: int
    renewals: int
    word: str


def renew(home: Path) -> str:
    """Blocks until it is done. Raises NobodyServes or RenewalFailed."""
    before = _settled(home, after=-1)  # workers of a renewal that runs already may be of the version of before
    os.kill(before.pid, signal.SIGHUP)
    if _settled(home, after=before.renewals).word != "done":
        raise RenewalFailed("The new workers did not get ready, so the old ones stay; the gateway's log says why")
    return "The gateway serves with new workers; the old ones have ended."


def _settled(home: Path, *, after: int) -> Standing:
    """How the gateway stands once that many renewals are over and none runs."""
    by_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < by_s:
        now = standing(home)
        if now.renewals > after and now.word != RENEWS:
            return now
        time.sleep(POLL_S)
    raise RenewalFailed(f"No word of the new workers after {PATIENCE_S:.0f} s; the gateway's log says more")


def standing(home: Path) -> Standing:
    """Raises NobodyServes, also where one has been killed: its lock went with it."""
    try:
        with (home / "serve.lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except BlockingIOError:
        words = (home / "serve.lock").read_text().split()
        if len(words) == 3:  # it starts, or is just writing: no signal finds its handler yet
            return Standing(int(words[0]), int(words[1]), words[2])
    raise NobodyServes(home)
