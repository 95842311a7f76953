"""Fee tables: what a stay costs, and which tables are refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.document import DocumentInvalid
from gateway.parking.tariff import DAY_MINUTES, MINUTE_MS, Step, Tariff, fee_minor, read_tariffs

CITY = Tariff("city", "CNY", 15, 12_000, (Step(0, 30, 500), Step(120, 30, 800)))
ROOT = Path(__file__).parents[3]


def fee(minutes: float) -> int:
    return fee_minor(CITY, entered_ms=1_000, left_ms=1_000 + int(minutes * MINUTE_MS))


@pytest.mark.parametrize(
    ("minutes", "minor"),
    [
        (0, 0), (15, 0), (15.01, 500), (30, 500), (31, 1000), (120, 2000), (121, 2800), (150.5, 3600),
        (DAY_MINUTES, 12_000), (DAY_MINUTES + 1, 12_500), (2 * DAY_MINUTES + 45, 25_000),
    ],
)  # fmt: skip
def test_a_stay_costs_what_the_table_says(minutes: float, minor: int) -> None:
    assert fee(minutes) == minor


@given(st.integers(0, 10 * DAY_MINUTES), st.integers(0, 10 * DAY_MINUTES))
def test_a_longer_stay_never_costs_less(one: int, other: int) -> None:
    assert fee(min(one, other)) <= fee(max(one, other))


@given(st.integers(0, 10 * DAY_MINUTES))
def test_no_stay_costs_more_than_the_cap_of_its_days(minutes: int) -> None:
    assert fee(minutes) <= -(-minutes // DAY_MINUTES) * CITY.day_cap_minor


def test_the_projects_own_tables_are_good() -> None:
    assert {tariff_id for partner, tariff_id in read_tariffs(ROOT / "partners") if partner == "parkco"} >= {
        "city-centre",
        "residential",
    }


GOOD = """[[tariff]]
id = "a"
currency = "CNY"
free_minutes = 15
day_cap_minor = 100
step = [{ from_minutes = 0, every_minutes = 30, minor = 5 }, { from_minutes = 60, every_minutes = 30, minor = 5 }]
"""


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (GOOD.replace("free_minutes", "free_mins"), "$.tariff[0]"),
        (GOOD.replace("100", "-100"), "$.tariff[0].day_cap_minor"),
        (GOOD.replace("= 100", "= 1.5"), "$.tariff[0].day_cap_minor"),
        (GOOD.replace("CNY", "XAU"), "$.tariff[0].currency"),
        (GOOD.replace("from_minutes = 0", "from_minutes = 5"), "$.tariff[0].step"),
        (GOOD.replace("from_minutes = 60", "from_minutes = 0"), "$.tariff[0].step[1].from_minutes"),
        (GOOD + GOOD, "$.tariff[1].id"),
        ("[[tarif]]", "$"),
    ],
)
def test_a_bad_table_is_refused_with_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    folder = tmp_path / "parkco"
    folder.mkdir()
    (folder / "tariffs.toml").write_text(text)
    with pytest.raises(DocumentInvalid) as refused:
        read_tariffs(tmp_path)
    assert (refused.value.file, refused.value.key) == ("partners/parkco/tariffs.toml", key)
