"""Parts checked side by side: in other processes where there are many, in this one where there are few.

At most a few parts are on their way at a time, and a process gets places in the file, not bytes: memory stays flat.
"""

import gc
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from .canonical import Refused
from .download import Place, read_place
from .facts import TermsOfFile
from .manifest import PartEntry
from .part import PartFound, check_part

WORKERS_LIMIT = 4  # processes; each takes some 100 MB, and one reckons for them all
WORTH_PROCESSES = 4  # parts; starting a process takes as long as checking two of them


class WorkerLost(Exception):
    """A process ended before its work: the system may have been short of memory."""


@dataclass(frozen=True, slots=True)
class Work:
    """A part and where its events and lines stand in the statement, from 1."""

    path: Path
    place: Place
    entry: PartEntry
    first_event: int
    first_line: int


_terms: list[TermsOfFile] = []  # of this process, when it is one that helps


def _begin(terms: TermsOfFile) -> None:
    _terms[:] = [terms]
    gc.disable()  # millions of small values without a cycle among them: collecting would take a third of the time


def _carry_out(work: Work) -> PartFound:
    return check(work, _terms[0])


def check(work: Work, terms: TermsOfFile) -> PartFound:
    try:
        raw = read_place(work.path, work.place)
    except (OSError, Refused) as error:
        return PartFound(work.entry.number, faults=[f"part {work.entry.number} cannot be read: {error}"])
    return check_part(raw, work.entry, terms=terms, first_event=work.first_event, first_line=work.first_line)


def workers_of(wanted: int | None) -> int:
    """One a core that this process may use, within bounds."""
    if wanted is None:
        wanted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(WORKERS_LIMIT, wanted))


def check_parts(works: Sequence[Work], terms: TermsOfFile, *, workers: int) -> Iterator[PartFound]:
    """In the order given. Raises WorkerLost."""
    if workers == 1 or len(works) < WORTH_PROCESSES:
        yield from (check(work, terms) for work in works)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin, initargs=(terms,)) as pool:
        waiting: deque[Future[PartFound]] = deque()
        try:
            for work in works:
                waiting.append(pool.submit(_carry_out, work))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise WorkerLost("a process that checked parts ended early: is there enough memory?") from None
        finally:
            for each in waiting:
                each.cancel()
