"""JSON at the edge: strict reading with the path of what is wrong, and one canonical writing for what gets signed."""

import json
from typing import Any, TypeVar

import msgspec

from gateway.clock import MomentBeyond, MomentMalformed, MomentOutOfRange, MomentUnreadable, reading_hook, spelling_hook
from gateway.free_text import check_texts
from gateway.refusal import BodyMalformed, Refusal

T = TypeVar("T")
_encoder = msgspec.json.Encoder(enc_hook=spelling_hook)
_plain = msgspec.json.Decoder()
_canonical = msgspec.json.Encoder(order="sorted")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}

encode = _encoder.encode


def decode(raw: bytes, shape: type[T]) -> T:
    """Decode and validate in one pass; unknown members are refused by the shape, moments by the clock's one reader.

    Raises BodyMalformed, MomentOutOfRange, TextUnreadable with the path.
    """
    decoder = _decoders.get(shape)
    if decoder is None:
        decoder = _decoders[shape] = msgspec.json.Decoder(shape, dec_hook=reading_hook)
    try:
        found = decoder.decode(raw)
        if not _is_plain(raw):
            _check_texts(_plain.decode(raw))
        return found  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        raise _refusal_of(error.__cause__)(reason, path=path.rstrip("`") or "$") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BodyMalformed(f"The body is not JSON: {error}", path="$") from None


def _is_plain(raw: bytes) -> bool:
    """Whether all of it can be seen as it stands, which is so of nearly every body: half a microsecond."""
    return b"\\" not in raw and raw.decode().isprintable()


def _check_texts(value: Any) -> None:
    """Most are plain once written without needless escapes and blanks; the walk costs three times as much."""
    if not _is_plain(_canonical.encode(value)):
        check_texts(value)


def _refusal_of(cause: BaseException | None) -> type[Refusal]:
    """What the clock's reader has raised, as a refusal; all else is another shape than agreed."""
    if isinstance(cause, MomentBeyond):
        return MomentOutOfRange
    return MomentMalformed if isinstance(cause, MomentUnreadable) else BodyMalformed


def plain(value: object) -> Any:
    """The value as JSON's own types, moments as text: what is stored of a body, and compared."""
    return msgspec.to_builtins(value, enc_hook=spelling_hook)


def canonical(value: Any) -> bytes:
    """The one spelling that is hashed and signed: sorted members, no blanks, UTF-8, integers only."""
    _refuse_floats(value)
    return _canonical.encode(value)


_LEAVES = frozenset((str, int, bool, type(None)))  # known without a call: a sealed event has some twenty members


def _refuse_floats(value: Any) -> None:
    """A float has no single spelling, and money never is one."""
    if isinstance(value, float):
        raise TypeError(f"canonical JSON holds no float: {value!r}")
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for member in value:
        if type(member) not in _LEAVES:
            _refuse_floats(member)


def refuse_repeated_members(raw: bytes) -> None:
    """For what somebody has signed. Raises BodyMalformed."""
    if members_repeat(raw):
        raise BodyMalformed("The body has a member more than once, so nobody could say what was signed", path="$")


def members_repeat(raw: bytes) -> bool:
    """Does an object of this valid JSON hold a member twice? msgspec takes the last one, another reader the first.

    Without a backslash each `"` opens or closes a text, so a member that was dropped shows in their number. That is
    quicker by far than a second parser, which reads only what holds a backslash.
    """
    if b"\\" not in raw:
        return raw.count(b'"') != 2 * _texts(_plain.decode(raw))
    try:
        json.loads(raw, object_pairs_hook=_pairs_of_one_object)
    except _MemberRepeated:
        return True
    return False


class _MemberRepeated(Exception):
    """Ends the second parser's reading."""


def _pairs_of_one_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _MemberRepeated
    return members


def _texts(value: Any) -> int:
    """How many texts, names of members included, a decoded value was written with."""
    if isinstance(value, str):
        return 1
    if isinstance(value, dict):
        return len(value) + sum(map(_texts, value.values()))
    return sum(map(_texts, value)) if isinstance(value, list) else 0
