"""The style sheet's colours, light and dark: apart enough for everybody (WCAG 2.2 §1.4.3, §1.4.11)."""

import re

import pytest

from tests.conftest import ROOT

SHEET = (ROOT / "gateway" / "static" / "parasol.css").read_text()
LIGHT, DARK = (dict(re.findall(r"--([\w-]+): (#\w{6});", block))
               for block in re.findall(r":root \{(.*?)\}", SHEET, re.DOTALL))  # fmt: skip
TEXT_ON = [(text, ground) for text in ("ink", "quiet", "accent", "ok", "bad") for ground in ("paper", "soft")]


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_both_themes_have_the_same_colours() -> None:
    assert LIGHT.keys() - {"scheme"} == DARK.keys()
    assert len(LIGHT) >= 10


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), [*TEXT_ON, ("on-accent", "accent")])
def test_text_is_read_on_every_ground(theme: dict[str, str], text: str, ground: str) -> None:
    assert contrast(theme[text], theme[ground]) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "soft"])
def test_the_edge_of_a_field_is_seen_on_every_ground(theme: dict[str, str], ground: str) -> None:
    assert contrast(theme["edge"], theme[ground]) >= 3


def test_no_other_colours_are_in_the_sheet() -> None:
    rest = re.sub(r":root \{.*?\}", "", SHEET, flags=re.DOTALL)
    assert {colour for colour in re.findall(r"#[0-9a-f]{3,8}\b", rest) if colour not in ("#0003", "#000c")} == set()
