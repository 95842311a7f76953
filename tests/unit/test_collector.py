"""Every program sets aside what it has when it is ready, so that the collector does not look through it for ever."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

LOOK = """
import gc
from gateway.collector import pass_over_what_is_here
kept = [{} for _ in range(1000)]
pass_over_what_is_here()
print(gc.get_freeze_count() >= 1000, gc.get_threshold()[0] > 700, gc.isenabled())
"""


def test_what_is_there_is_set_aside_and_looks_are_rarer_but_do_not_end() -> None:
    said = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.split() == ["True", "True", "True"]


@pytest.mark.parametrize("program", ["app", "backoffice", "metrics/hub"])
def test_every_program_that_stays_does_so_when_it_is_ready(program: str) -> None:
    text = (ROOT / f"gateway/{program}.py").read_text()
    ready = {"app": "self._edge = house.edge", "backoffice": "async with open_house(settings):",
             "metrics/hub": "server = await hub.serve(path)"}[program]  # fmt: skip
    assert f"{ready}\n" in text
    assert text.split(f"{ready}\n")[1].lstrip().startswith("pass_over_what_is_here()")
