"""Parking fees as data: partners/<id>/tariffs.toml, read strictly, and the one rule that turns a stay into a fee."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from gateway.document import DocumentInvalid, read_document, shape_document
from gateway.money import MINOR_DIGITS

FILE = "tariffs.toml"
MINUTE_MS = 60_000
DAY_MINUTES = 24 * 60
_Fee = Annotated[int, Meta(ge=0, le=1_000_000_00)]
_Minutes = Annotated[int, Meta(ge=0, le=DAY_MINUTES)]


class Step(Struct, frozen=True, forbid_unknown_fields=True):
    """From this minute of the day of stay on, each started interval of `every_minutes` costs `minor`."""

    from_minutes: _Minutes
    every_minutes: Annotated[int, Meta(ge=1, le=DAY_MINUTES)]
    minor: _Fee


class Tariff(Struct, frozen=True, forbid_unknown_fields=True):
    """A fee table. A stay within `free_minutes` costs nothing, a longer one is charged from its first minute.

    A day of stay is 24 hours from the entry; it costs at most `day_cap_minor`, then the steps begin again.
    """

    id: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    currency: str
    free_minutes: _Minutes
    day_cap_minor: _Fee
    step: tuple[Step, ...]


class _TariffFile(Struct, frozen=True, forbid_unknown_fields=True):
    tariff: tuple[Tariff, ...]


def fee_minor(tariff: Tariff, *, entered_ms: int, left_ms: int) -> int:
    """The fee of a stay; a started minute is a minute. `left_ms` is not before `entered_ms`."""
    assert left_ms >= entered_ms, "time does not run backwards in a car park"
    minutes = -((entered_ms - left_ms) // MINUTE_MS)
    if minutes <= tariff.free_minutes:
        return 0
    days, rest = divmod(minutes, DAY_MINUTES)
    return days * _day_minor(tariff, DAY_MINUTES) + _day_minor(tariff, rest)


def _day_minor(tariff: Tariff, minutes: int) -> int:
    """What the first `minutes` of a day of stay cost."""
    ends = [*(step.from_minutes for step in tariff.step[1:]), DAY_MINUTES]
    total = 0
    for step, end in zip(tariff.step, ends, strict=True):
        inside = min(minutes, end) - step.from_minutes
        if inside > 0:
            total += -(-inside // step.every_minutes) * step.minor
    return min(total, tariff.day_cap_minor)


def read_tariffs(partners_folder: Path) -> dict[tuple[str, str], Tariff]:
    """Every partner's fee tables by (partner id, tariff id). Raises DocumentInvalid with file, key and reason."""
    found: dict[tuple[str, str], Tariff] = {}
    for path in sorted(partners_folder.glob(f"*/{FILE}")):
        partner_id, name = path.parent.name, f"partners/{path.parent.name}/{FILE}"
        for index, tariff in enumerate(shape_document(read_document(path, name=name), _TariffFile, name=name).tariff):
            _check(tariff, found, partner_id, name=name, key=f"$.tariff[{index}]")
            found[partner_id, tariff.id] = tariff
    return found


def _check(tariff: Tariff, found: Mapping[tuple[str, str], Tariff], partner_id: str, *, name: str, key: str) -> None:
    if (partner_id, tariff.id) in found:
        raise DocumentInvalid(name, f"{key}.id", f"{tariff.id!r} is the id of another tariff")
    if tariff.currency not in MINOR_DIGITS:
        raise DocumentInvalid(name, f"{key}.currency", f"is not one of {', '.join(sorted(MINOR_DIGITS))}")
    starts = [step.from_minutes for step in tariff.step]
    if not starts or starts[0] != 0:
        raise DocumentInvalid(name, f"{key}.step", "needs a first step with from_minutes = 0")
    for place, (before, after) in enumerate(pairwise(starts), 1):
        if after <= before:
            raise DocumentInvalid(name, f"{key}.step[{place}].from_minutes", "is not later than the step before")
