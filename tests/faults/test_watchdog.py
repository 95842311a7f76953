"""A run of the tests that hangs says where and ends, failed: in a test, a fixture, the collection, on its way out."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.watchdog import STATUS

ROOT = Path(__file__).parents[2]
LIMIT_S = 10  # for a test: long beside what starting takes on a busy machine
CONFIG = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
addopts = -p tests.watchdog -p no:cacheprovider
"""
WAITING = "import asyncio, atexit, pytest, threading\nasync def never():\n    await asyncio.Event().wait()  # here\n"
IN_A_TEST = "async def test_that_hangs():\n    await never()\n"
IN_A_FIXTURE = """
@pytest.fixture(scope="session")
async def held():
    yield
    await never()
async def test_that_is_fine(held):
    pass
"""
ON_THE_WAY_OUT = """
def test_that_is_fine():
    threading.Thread(target=threading.Event().wait, name="left over").start()
"""
WITHOUT_LETTING_GO = "import re\ndef test_that_hangs():\n    re.match('(a+)+$', 'a' * 60 + 'b')\n"
FINE = "def test_that_is_fine():\n    pass\n"


IN_TWO = ("-n", "2", "--dist", "loadfile", "--max-worker-restart", "0")
LIMITED = ("-o", f"faulthandler_timeout={LIMIT_S}")
RUNS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "test": (LIMITED, {"one": IN_A_TEST}),
    "fixture": (LIMITED, {"one": IN_A_FIXTURE}),
    "collection": (LIMITED, {"one": "threading.Event().wait()\n"}),
    "way out": (LIMITED, {"one": ON_THE_WAY_OUT}),
    "one of two": ((*IN_TWO, *LIMITED), {"one": IN_A_TEST, "two": FINE, "three": FINE}),
    "busy": (
        (*IN_TWO, *LIMITED, "-o", "faulthandler_exit_on_timeout=true"), {"one": WITHOUT_LETTING_GO, "two": FINE}
    ),
    "whole": ((*IN_TWO, "-o", "faulthandler_timeout=100", "-o", f"run_timeout={LIMIT_S}"),
              {"one": IN_A_TEST, "two": IN_A_TEST}),
    "fine": (("-o", "faulthandler_timeout=240"), {"one": FINE, "two": FINE}),
    "fine in two": ((*IN_TWO, "-o", "faulthandler_timeout=240"), {"one": FINE, "two": FINE}),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of pytest went."""

    status: int
    out: str
    err: str

    @property
    def summary(self) -> str:
        return self.out.splitlines()[-1]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """All of them beside each other, as they mostly wait."""

    folders = {name: tmp_path_factory.mktemp("run", numbered=True) for name in RUNS}  # not something for threads

    def run(name: str) -> Ended:
        folder, (arguments, files) = folders[name], RUNS[name]
        (folder / "pytest.ini").write_text(CONFIG)
        for file, text in files.items():
            (folder / f"test_{file}.py").write_text(WAITING + text)
        command = [sys.executable, "-m", "pytest", "-c", str(folder / "pytest.ini"), *arguments, str(folder)]
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, timeout=180)
        return Ended(done.returncode, done.stdout, done.stderr)

    with ThreadPoolExecutor(len(RUNS)) as beside:
        return dict(zip(RUNS, beside.map(run, RUNS), strict=True))


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("test", ["::test_that_hangs\n", "await asyncio.Event().wait()  # here"]),
        ("fixture", ["::test_that_is_fine, its fixtures' end", "await asyncio.Event().wait()  # here"]),
        ("collection", [": collecting\n", "test_one.py"]),
        ("way out", [": leaving, after the last test", "threading.py"]),
    ],
)
def test_a_run_that_hangs_says_where_and_ends(ended: dict[str, Ended], place: str, says: list[str]) -> None:
    run = ended[place]
    assert run.status == STATUS, run
    assert [words for words in ("The tests hang", *says) if words not in run.err] == []


def test_a_hang_in_one_of_two_processes_says_where_and_ends_the_run_with_its_summary(ended: dict[str, Ended]) -> None:
    run = ended["one of two"]
    assert run.status not in (0, STATUS), run
    assert "test_one.py::test_that_hangs\n" in run.err
    assert "await asyncio.Event().wait()  # here" in run.err
    assert "crashed while running 'test_one.py::test_that_hangs'" in run.out
    assert "1 failed" in run.summary


def test_a_test_that_lets_nothing_else_run_is_ended_by_the_faulthandler(ended: dict[str, Ended]) -> None:
    run = ended["busy"]
    assert run.status not in (0, STATUS), run
    assert "in test_that_hangs" in run.err
    assert "1 failed" in run.summary


def test_a_whole_run_has_a_limit_and_says_which_tests_it_waits_for(ended: dict[str, Ended]) -> None:
    run = ended["whole"]
    assert run.status != 0, run
    assert "The tests hang" in run.err
    assert "test_one.py::test_that_hangs" in run.err
    assert "test_two.py::test_that_hangs" in run.err


@pytest.mark.parametrize("how", ["fine", "fine in two"])
def test_a_run_that_does_not_hang_hears_nothing(ended: dict[str, Ended], how: str) -> None:
    run = ended[how]
    assert (run.status, run.err) == (0, "")
    assert "2 passed" in run.summary
