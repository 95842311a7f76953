"""What a person reads later holds nothing that cannot be seen."""

from typing import Any

import pytest

from gateway.call import Decision
from gateway.free_text import TextUnreadable, check_texts, unreadable_in
from gateway.jsonio import decode

HIDDEN = {
    "nul": "\0", "newline": "\n", "tab": "\t", "escape": "\x1b", "delete": "\x7f", "next line": "\x85",
    "right to left override": "\u202e", "isolate": "\u2066", "right to left mark": "\u200f", "zero width": "\u200b",
    "byte order mark": "\ufeff", "line separator": "\u2028", "paragraph separator": "\u2029", "soft hyphen": "\xad",
    "private": "\ue000", "not assigned": "\u0378", "no character": "\uffff", "tag": "\U000e0041",
}  # fmt: skip


@pytest.mark.parametrize("char", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("escaped", [False, True], ids=["as it is", "escaped"])
def test_a_reason_with_what_nobody_sees_is_refused_with_its_place(char: str, escaped: bool) -> None:
    units = [char.encode("utf-16-be")[place : place + 2].hex() for place in range(0, len(char.encode("utf-16-be")), 2)]
    written = "".join(f"\\u{unit}" for unit in units) if escaped or char < " " else char
    with pytest.raises(TextUnreadable) as refused:
        decode(f'{{"Reason": "ok{written}"}}'.encode(), Decision)
    assert refused.value.path == "$.Reason"
    assert f"U+{ord(char):04X}" in refused.value.detail


SEEN = (
    "the till was closed",
    "结算核对无误　财务部",
    "Ünïcødé — “quotes” №5",
    "مراجعة",
    "זיכוי",
    "é",
    "𠮷𪚥",
    "\U000323b0",
    "🙂",
    "a\xa0b",
    "C:\\new",
)


@pytest.mark.parametrize("text", SEEN)
def test_every_script_its_blanks_and_names_that_are_new_to_us_are_read(text: str) -> None:
    raw = f'{{"Reason": "{text}"}}'.replace("\\", "\\\\").encode()
    assert decode(raw, Decision).reason == text
    assert unreadable_in(text) is None


def test_a_text_is_found_wherever_it_stands_and_a_name_without_being_repeated() -> None:
    for value, path in (
        ({"a": [{"b": "x\u202e"}]}, "$.a[0].b"),
        ({"a": {"x\u202e": 1}}, "$.a"),
        ("\u202e", "$"),
    ):
        with pytest.raises(TextUnreadable) as refused:
            check_texts(value)
        assert refused.value.path == path


def test_depth_costs_no_more_than_its_length() -> None:
    value: Any = "x\u202e"
    for _ in range(100_000):
        value = [value]
    with pytest.raises(TextUnreadable):
        check_texts(value)
