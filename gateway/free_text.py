"""One rule for every text that somebody writes and a person reads later: names, titles, reasons, remittance.

Control characters end lines and hide what follows, marks of writing direction turn a line around, and what no font
shows lets two names look like one. Such a text is refused where it comes in: bodies (jsonio), agreed documents, the
command line. Letters of every script and their blanks pass.
"""

import unicodedata
from typing import Any

from gateway.refusal import Refusal

Place = tuple[Any, str]  # of the object or list around it, and the step from there
HAN_TO_COME = range(0x20000, 0x3FFFE)  # planes 2 and 3: names have characters that this Python does not know yet


class TextUnreadable(Refusal):
    """A text holds a character that nobody sees: a control character, a mark of direction, one that is not assigned."""

    code, ob_code, outcome = "text_unreadable", "U002", "schema"
    title = "A text holds a character that cannot be read"


def unreadable_in(text: str) -> str | None:
    """The first such character, written like U+202E; None: a person reads what is there."""
    if text.isprintable():
        return None
    return next((f"U+{ord(char):04X}" for char in text if not _is_readable(char)), None)


def _is_readable(char: str) -> bool:
    category = unicodedata.category(char)
    return char.isprintable() or category == "Zs" or (category == "Cn" and ord(char) in HAN_TO_COME)


def check_texts(value: Any) -> None:
    """Of all texts and names in a value of JSON's types. Raises TextUnreadable with the path."""
    waiting: list[tuple[Any, Place | None]] = [(value, None)]
    while waiting:  # no recursion, and a path only when it is told: whoever nests deep should not keep us busy
        found, place = waiting.pop()
        if isinstance(found, dict):
            waiting.extend((name, place) for name in found)  # a name that cannot be read stands in no path
            waiting.extend((member, (place, f".{name}")) for name, member in found.items())
        elif isinstance(found, list):
            waiting.extend((item, (place, f"[{index}]")) for index, item in enumerate(found))
        elif isinstance(found, str) and (char := unreadable_in(found)):
            raise TextUnreadable(f"It holds {char}; write what can be seen, in one line", path=_path(place))


def _path(place: Place | None) -> str:
    steps = []
    while place is not None:
        place, step = place
        steps.append(step)
    return "$" + "".join(reversed(steps))
