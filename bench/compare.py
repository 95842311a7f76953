"""Two servers in one run: short turns, one after the other, so that a noisy moment of the machine hits both.

The result is the median of the turns' ratios. A bare rate says something about the machine, a ratio about the code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench import load
from bench.pinned import Pinned

ROUNDS = 5  # odd, so that the median is a turn that happened
TURN_S = 2.0  # short against a noisy neighbour, long against a start
WARM_UP_S = 1.0  # caches, lazy imports, connection pools


class RunUnusable(Exception):
    """The run measured something else than it should have; the text says what."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. `scripts` makes fresh scripts for a turn, as proofs are spent; `yes` are the statuses that count.

    `per_unit` is the number of requests in one unit of work: a pair of hold and confirmation has two.
    """

    name: str
    target: load.Target
    process: Pinned
    scripts: Callable[[], Sequence[load.Script]]
    yes: tuple[int, ...] = (200,)
    per_unit: int = 1


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side did in one turn."""

    rate: float  # units of work a second
    work_us: float  # CPU time of the server's processes for one request
    report: load.Report


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours beside the peer's, turn by turn."""

    ours: tuple[Turn, ...]
    peer: tuple[Turn, ...]

    @property
    def ratio(self) -> float:
        """Ours over the peer's rate: above 1 we are faster."""
        return median(a.rate / b.rate for a, b in zip(self.ours, self.peer, strict=True))

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest ratio of a turn: how far the machine let us see."""
        ratios = [a.rate / b.rate for a, b in zip(self.ours, self.peer, strict=True)]
        return min(ratios), max(ratios)

    @property
    def generator_bound(self) -> bool:
        return any(turn.report.generator_bound for turn in (*self.ours, *self.peer))


def compare(ours: Side, peer: Side, *, rounds: int = ROUNDS, turn_s: float = TURN_S) -> Comparison:
    """Warm both up, then let them take turns. Raises RunUnusable when an answer was not the one asked for."""
    for side in (ours, peer):
        _turn(side, seconds=WARM_UP_S)
    turns = [(_turn(ours, seconds=turn_s), _turn(peer, seconds=turn_s)) for _ in range(rounds)]
    return Comparison(tuple(mine for mine, _ in turns), tuple(theirs for _, theirs in turns))


def middle(turns: Sequence[Turn]) -> Turn:
    """The turn with the median rate."""
    return sorted(turns, key=lambda turn: turn.rate)[len(turns) // 2]


def _turn(side: Side, *, seconds: float) -> Turn:
    scripts = side.scripts()  # before the clock: signing proofs is the client's work
    before = side.process.cpu_seconds()
    report = load.run(side.target, scripts, seconds=seconds)
    spent = side.process.cpu_seconds() - before
    if not report.only(*side.yes):
        raise RunUnusable(f"{side.name} answered {report.statuses}, not only {side.yes}.\n{side.process.log_tail()}")
    return Turn(report.rate / side.per_unit, spent / report.requests * 1e6, report)
