"""Whose statements are expected, and who signed them; the command that partners run."""

import json
import subprocess
import sys
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from gateway.settlement import verify
from gateway.settlement.verify import main, verify_files
from gateway.settlement.verify.pins import KNOWN
from tests.unit.settlement import drafts
from tests.unit.settlement.cases import DAY, PINNED, busy, check, put, simple
from tests.unit.settlement.drafts import confirmed
from tests.unit.settlement.statements import statement

THUMBPRINT = drafts.SIGNATORY.thumbprint
STRANGER = drafts.Signatory()


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "s.json"
    path.write_bytes(busy().small())
    (tmp_path / "keys.json").write_text(json.dumps(PINNED))
    return path


def other_partner(folder: Path, monkeypatch: pytest.MonkeyPatch, *, signatory: drafts.Signatory) -> Path:
    """An honest statement of somebody else."""
    with monkeypatch.context() as patch:
        for module in (drafts, sys.modules["tests.unit.settlement.statements"]):
            patch.setattr(module, "PARTNER", "shop")
        day = [{**drafts.effective(0), "partner": "shop"}, {**confirmed(1), "partner": "shop"}]
        path = folder / "shop.json"
        path.write_bytes(statement({DAY: day}, signatory=signatory).small())
    return path


# --- exit codes -------------------------------------------------------------------------------------------------------
def test_without_pins_the_proofs_hold_and_the_signer_is_unknown(file: Path, capsys: Any) -> None:
    assert main([str(file)]) == 3
    out = capsys.readouterr().out
    assert "PROOFS HOLD, SIGNER UNKNOWN" in out
    assert f"{THUMBPRINT} NOT PINNED" in out
    assert "ACCEPTED" not in out


@pytest.mark.parametrize("pins", [["--jwks", "keys.json"], ["--key", STRANGER.thumbprint, "--key", THUMBPRINT]])
def test_with_pins_it_is_accepted(file: Path, capsys: Any, pins: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert main([str(file), *pins]) == 0
    out = capsys.readouterr().out
    assert "ACCEPTED" in out
    assert f"{THUMBPRINT} pinned" in out


def test_a_statement_that_anybody_else_signed_is_refused(file: Path, capsys: Any) -> None:
    assert main([str(file), "--key", STRANGER.thumbprint]) == 1
    assert "is not among the pinned keys" in capsys.readouterr().out


def test_a_head_signed_by_a_key_that_is_not_pinned_is_refused(file: Path) -> None:
    def resigned(manifest: Any) -> None:
        manifest["keys"].append(STRANGER.jwk)
        head = manifest["days"][0]["head"]
        manifest["days"][0]["head_jws"] = STRANGER.jws(drafts.canonical(head), typ="parasol-day-head")

    report = check(busy(manifest=resigned).small(), file.parent)
    assert "is not among the pinned keys" in "\n".join(report.faults)


JWKS: dict[str, tuple[Any, str]] = {
    "tokens": ({"keys": [{n: v for n, v in drafts.SIGNATORY.jwk.items() if n != "purpose"}]}, "keys of access tokens"),
    "mixed": ({"keys": [drafts.SIGNATORY.jwk, {"kty": "RSA", "kid": "x"}]}, "keys of access tokens"),
    "empty": ({"keys": []}, "holds no key"),
    "other": ({"Data": {}}, "holds no key"),
    "broken": ({"keys": [drafts.SIGNATORY.jwk | {"x": "AA"}]}, "x and y have 32 bytes"),
    "list": ([], "is not readable as a JWKS"),
}


@pytest.mark.parametrize(("jwks", "sentence"), JWKS.values(), ids=JWKS)
def test_pins_that_are_no_keys_of_statements_cannot_be_used(file: Path, capsys: Any, jwks: Any, sentence: str) -> None:
    (file.parent / "keys.json").write_text(json.dumps(jwks))
    assert main([str(file), "--jwks", str(file.parent / "keys.json")]) == 2
    assert sentence in capsys.readouterr().err


def test_the_command_says_when_it_cannot_be_used(file: Path, capsys: Any) -> None:
    folder = file.parent
    (folder / "bad.json").write_text("[" * 100_000)
    (folder / "long.json").write_text(" " * ((1 << 20) + 1))
    for arguments in (
        [],
        ["--what"],
        [str(folder)],
        [str(folder / "no")],
        [str(file), "--jwks"],
        [str(file), "--key", "x"],
    ):
        assert main(arguments) == 2
    for name in ("bad.json", "long.json", "missing.json", "."):
        assert main([str(file), "--jwks", str(folder / name)]) == 2
    assert main(["--help"]) == 0
    assert "Traceback" not in "".join(capsys.readouterr())


def test_the_command_refuses_with_one_and_shows_nothing_that_moves_a_terminal(file: Path, capsys: Any) -> None:
    from tests.unit.settlement.cases import at

    file.write_bytes(simple(confirmed(1), told=at(1, put("data", "discount", "\x1b[2J"))).small())
    assert main([str(file)]) == 1
    out = capsys.readouterr().out
    assert "REFUSED" in out
    assert "\x1b" not in out


# --- one language at a time -------------------------------------------------------------------------------------------
CHINESE = "通过"


@pytest.mark.parametrize(
    ("arguments", "environment", "chinese"),
    [
        ([], {"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, False),
        ([], {"LC_ALL": "", "LANG": "zh_CN.UTF-8"}, True),
        ([], {"LC_ALL": "zh_TW.UTF-8", "LANG": "en_GB"}, True),
        (["--lang", "zh"], {"LC_ALL": "C"}, True),
        (["--lang", "en"], {"LC_ALL": "zh_CN.UTF-8"}, False),
    ],
)
def test_the_table_speaks_one_language_at_a_time(
    file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str],
    chinese: bool,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main([str(file), "--key", THUMBPRINT, *arguments]) == 0
    out = capsys.readouterr().out
    assert (CHINESE in out) == chinese
    assert ("ACCEPTED" in out) != chinese
    assert ("分摊偏差" in out) == chinese
    assert ("split drift" in out) != chinese


def test_the_drift_stands_beside_what_chance_gives(tmp_path: Path, capsys: Any) -> None:
    """One-fen rides at 60/40: A = 1998 leaves bank f = 0.8, so that twelve give √(12 · 0.16) = 1.38 fen."""
    (tmp_path / "s.json").write_bytes(simple(*(confirmed(n) for n in range(1, 13))).small())
    report = verify_files([tmp_path / "s.json"], jwks=PINNED)
    drift = sum(10_000 * confirmed(n)["data"]["legs"]["bank"] - 1998 * 6000 for n in range(1, 13))
    assert report.files[0].drift == {"bank": (drift, 12 * 8000 * 2000), "partner": (-drift, 12 * 8000 * 2000)}
    main([str(tmp_path / "s.json")])
    out = capsys.readouterr().out
    assert f"{'-' if drift > 0 else '+'}0.{abs(drift) // 100:04} of ±0.0138 CNY expected by chance" in out
    assert "MORE THAN CHANCE" not in out


def test_seeds_that_were_chosen_are_said_to_be_more_than_chance(tmp_path: Path, capsys: Any) -> None:
    """A bank that draws ids until each split is to its favour."""
    chosen = [n for n in range(1, 400) if confirmed(n)["data"]["legs"]["bank"] == 1198]
    assert len(chosen) > 20
    (tmp_path / "s.json").write_bytes(simple(*(confirmed(n) for n in chosen)).small())
    assert main([str(tmp_path / "s.json"), "--key", THUMBPRINT]) == 0
    assert "FAR MORE THAN CHANCE" in capsys.readouterr().out


# --- whose they are ---------------------------------------------------------------------------------------------------
def test_another_partners_statement_is_refused(file: Path, capsys: Any) -> None:
    assert main([str(file), "--key", THUMBPRINT, "--partner", "metro"]) == 0
    assert main([str(file), "--key", THUMBPRINT, "--partner", "shop"]) == 1
    assert "partner is metro; the command expects statements of shop" in capsys.readouterr().out


def test_files_of_two_partners_in_one_call_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = other_partner(file.parent, monkeypatch, signatory=drafts.SIGNATORY)
    assert verify_files([shop], jwks=PINNED).accepted
    report = verify_files([file, shop], jwks=PINNED)
    assert [each.accepted for each in report.files] == [True, False]
    assert "check them in two calls" in report.files[1].faults[0]


def test_a_folder_remembers_partner_and_keys_and_refuses_others(
    file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(file), "--jwks", str(file.parent / "keys.json"), "--remember"]) == 0
    known = json.loads((file.parent / KNOWN).read_text())
    assert known == {"bank": "first-bank", "format": "parasol-known-statements-1", "keys": [THUMBPRINT],
                     "partner": "metro"}  # fmt: skip
    assert main([str(file)]) == 0
    forged = file.with_name("forged.json")
    forged.write_bytes(busy(signatory=STRANGER).small())
    assert main([str(forged)]) == 1
    shop = other_partner(file.parent, monkeypatch, signatory=drafts.SIGNATORY)
    assert main([str(shop)]) == 1
    assert f"{KNOWN} expects statements of metro" in capsys.readouterr().out


def test_keys_that_a_folder_knows_are_said_to_be_the_folders(file: Path, capsys: Any) -> None:
    """Whoever sends a forged statement may send a file of known statements with it: a glance at the report shows it."""
    stranger = file.with_name("forged.json")
    stranger.write_bytes(busy(signatory=STRANGER).small())
    assert main([str(stranger), "--key", STRANGER.thumbprint, "--remember"]) == 0
    assert KNOWN not in capsys.readouterr().out.partition("Remembered")[0]
    assert main([str(stranger)]) == 0
    assert f"the pinned keys are those of {file.parent / KNOWN}" in capsys.readouterr().out
    assert main([str(stranger), "--lang", "zh"]) == 0
    assert f"固定的密钥取自 {file.parent / KNOWN}" in capsys.readouterr().out


def test_two_folders_that_say_whose_they_are_may_be_checked_in_one_call(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(file), "--key", THUMBPRINT, "--remember"]) == 0
    (file.parent / "shop").mkdir()
    shop = other_partner(file.parent / "shop", monkeypatch, signatory=STRANGER)
    assert main([str(shop), "--key", STRANGER.thumbprint, "--remember"]) == 0
    assert main([str(file), str(shop)]) == 0


def test_only_what_was_accepted_with_pins_is_remembered(
    file: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(file), "--remember"]) == 2
    assert main([str(file), "--key", STRANGER.thumbprint, "--remember"]) == 1
    assert not (file.parent / KNOWN).exists()
    assert main([str(file), "--key", THUMBPRINT, "--remember"]) == 0
    shop = other_partner(file.parent, monkeypatch, signatory=drafts.SIGNATORY)
    assert main([str(shop), "--key", THUMBPRINT, "--partner", "shop", "--remember"]) == 2
    assert "knows statements of metro, not of shop" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"bank":"b","format":"x","keys":["a"],"partner":"p"}'])
def test_a_folder_that_says_nothing_clear_cannot_be_used(file: Path, content: str) -> None:
    (file.parent / KNOWN).write_text(content)
    assert main([str(file), "--key", THUMBPRINT]) == 2


# --- at the partner's -------------------------------------------------------------------------------------------------
def test_the_folder_runs_alone_where_nothing_of_the_gateway_is(tmp_path: Path) -> None:
    copytree(Path(verify.__file__).parent, tmp_path / "verify")
    (tmp_path / "s.json").write_bytes(busy().small())
    ran = subprocess.run(
        [sys.executable, "-I", "-c",
         "import runpy, sys; sys.path.insert(0, '.');"
         f"sys.argv = ['verify', 's.json', '--key', '{THUMBPRINT}', '--lang', 'zh'];"
         "sys.modules['gateway'] = None; runpy.run_module('verify', run_name='__main__')"],
        cwd=tmp_path, capture_output=True, check=False, env={"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert THUMBPRINT.encode() in ran.stdout
    assert ran.stderr == b""
