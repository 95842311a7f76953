"""What the shell completes, and what documents tell to type, exists."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from gateway.cli import app
from tests.conftest import ROOT

PARASOL = str(Path(sys.executable).with_name("parasol"))


@pytest.mark.parametrize(
    ("words", "offered"),
    [("parasol ap", "apply"), ("parasol demo --park", "--parking-day"), ("parasol audit ver", "verify")],
)
def test_the_shell_completes_commands_and_options(words: str, offered: str) -> None:
    asked = {"_PARASOL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    told = subprocess.run([PARASOL], env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert told.stdout.split() == [offered]


def test_the_shells_completion_can_be_shown_and_installed() -> None:
    told = subprocess.run([PARASOL, "--show-completion", "bash"], capture_output=True, text=True, check=True)
    assert "complete -o default -F _parasol_completion parasol" in told.stdout
    assert "--install-completion" in subprocess.run([PARASOL, "--help"], capture_output=True, text=True).stdout


def commands_in_documents() -> list[tuple[str, str]]:
    """Every `parasol …` line that a page, a README or a guide tells somebody to type: its file and its words."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "gateway").rglob("templates/*.html")]
    typed = re.compile(r"^(?:\$ )?parasol ([a-z].+)$|`parasol ([a-z][^`]+)`", re.MULTILINE)
    return [
        (path.name, one or other)
        for path in sorted(files)
        for one, other in typed.findall(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("file", "words"), commands_in_documents())
def test_what_a_document_tells_to_type_exists(file: str, words: str) -> None:
    """A page once told of an option of another command."""
    group: Any = get_command(app)
    names = re.findall(r"^[a-z-]+|(?<= )[a-z-]+", words.partition(" #")[0])
    assert names, f"{file} names no command"
    while names and isinstance(group, TyperGroup):
        known = group.commands
        assert names[0] in known, f"{file}: {names[0]}"
        group = known[names.pop(0)]
    if group.name != "verify":  # the stand-alone verifier reads its own arguments
        options = {option for parameter in group.params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"(?<=\W)--[a-z-]+", words.partition(" #")[0])) <= options, f"{file}: parasol {words}"
