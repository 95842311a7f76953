"""The demo's input: stays out of free spaces, purchases out of lines."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gateway.demo.parking_day import DAY_MS, Stay, assign_cars, generate_day, read_day, sample, shift, whole_days_until
from gateway.demo.purchases import Purchase, first_customers, generate_purchases, read_purchases
from gateway.demo.replay import Replay, in_parallel, read_input
from gateway.demo.stage import DemoCannotStart

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the real data in ../shared is not here")


def day(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "day.csv"
    path.write_text("\n".join(("timestamp,a,b", *rows)) + "\n")
    return path


def test_a_fall_enters_and_a_rise_leaves_first_in_first_out(tmp_path: Path) -> None:
    moments = ("00:00:00+00:00,10,5", "00:10:00+00:00,8,", "00:20:00+00:00,7,", "00:30:00+00:00,9,5")
    file = day(tmp_path, *(f"2021-10-01T{moment}" for moment in moments))
    start = 1_633_046_400_000
    minute = 60_000
    assert read_day(file) == [Stay(start + 10 * minute, start + 30 * minute, "a")] * 2


def test_cars_from_before_the_day_give_no_stay(tmp_path: Path) -> None:
    file = day(
        tmp_path, "2021-10-01T00:00:00+00:00,1,3", "2021-10-01T00:10:00+00:00,9,2", "2021-10-01T00:20:00+00:00,,3"
    )
    assert [stay.lot for stay in read_day(file)] == ["b"]


@pytest.mark.parametrize("hour", range(0, 24, 3))
def test_a_day_that_begins_on_the_utc_day_before_ends_before_now(tmp_path: Path, hour: int) -> None:
    """A day of Shanghai begins at 16:00 UTC: moved by calendar dates, its last cars would come from the future."""
    moments = ("09-30T16:00:00+00:00,5,5", "09-30T17:00:00+00:00,4,4", "10-01T15:55:00+00:00,5,5")
    stays = read_day(day(tmp_path, *(f"2021-{moment}" for moment in moments)))
    now_ms = 1_790_000_000_000 + hour * 3_600_000
    moved = shift(stays, by_ms=whole_days_until(now_ms, stays))
    last_ms = max(stay.left_ms for stay in moved)
    assert now_ms - DAY_MS < last_ms <= now_ms, "the latest date on which it is over"
    assert {(new.entered_ms - old.entered_ms) % DAY_MS for new, old in zip(moved, stays, strict=True)} == {0}


@pytest.mark.parametrize("content", [None, "", "timestamp,a\n", "no,day\n1,2\n", "\0", "\xff"])
@pytest.mark.parametrize("kind", ["parking", "purchases"])
def test_a_file_that_is_not_what_it_should_be_ends_the_demonstration_before_it_begins(
    tmp_path: Path, kind: str, content: str | None
) -> None:
    path = tmp_path / "given"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content, encoding="latin-1")
    replay = Replay(path if kind == "parking" else None, path if kind == "purchases" else None, everything=False)
    with pytest.raises(DemoCannotStart, match=str(path)):
        read_input(replay, Console(quiet=True))


@pytest.mark.parametrize("kind", ["parking", "purchases"])
def test_where_a_file_is_not_there_a_small_day_is_made_and_said_so(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nowhere"
    replay = Replay(path if kind == "parking" else None, path if kind == "purchases" else None, everything=False)
    read_input(replay, Console(width=500))
    assert f"{path} is not there: a small" in capsys.readouterr().out
    assert replay.stays
    assert replay.bought


async def test_of_many_that_fail_at_once_the_first_is_told_alone() -> None:
    """A tree of traces is nothing for whoever tries the product."""

    async def fail(number: int) -> None:
        raise ValueError(f"call {number} failed")

    with pytest.raises(ValueError, match="call 0 failed") as told:
        await in_parallel("calls", range(3), fail)
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__


def test_a_row_that_is_no_row_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 3"):
        read_day(day(tmp_path, "2021-10-01T00:00:00+00:00,1,2", "yesterday,1,2"))


@needs_shared
def test_the_real_day_has_stays_in_hundreds_of_lots() -> None:
    stays = read_day(SHARED / "parking" / "2021-10-01.csv")
    assert len(stays) > 10_000
    assert len({stay.lot for stay in stays}) > 200
    assert all(stay.entered_ms < stay.left_ms for stay in stays)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 200)), max_size=60))
def test_no_car_is_in_two_lots_at_once(pairs: list[tuple[int, int]]) -> None:
    stays = sorted(Stay(start, start + length, "a") for start, length in pairs)
    cars, count = assign_cars(stays)
    assert all(0 <= car < count for car in cars)
    for i, one in enumerate(stays):
        for j in range(i + 1, len(stays)):
            if cars[i] == cars[j]:
                assert one.left_ms <= stays[j].entered_ms


def test_a_sample_is_spread_over_the_day() -> None:
    stays = generate_day(start_ms=0, stays=1000)
    few = sample(stays, 10)
    assert len(few) == 10
    assert few[0] == stays[0]
    assert few[-1].entered_ms > stays[800].entered_ms


def test_the_generated_day_is_the_same_every_time() -> None:
    assert generate_day(start_ms=0, stays=50) == generate_day(start_ms=0, stays=50)


def test_purchases_without_money_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("customer_id date n dollars\n 00001 19970101  1   11.77\n 00002 19970102 1 0.00\n\n")
    assert read_purchases(path, currency="CNY") == [Purchase("00001", 852_076_800_000, 1177)]


def test_a_line_that_is_no_purchase_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("customer_id date n dollars\n 00001 tomorrow 1 2.00\n")
    with pytest.raises(ValueError, match="line 2"):
        read_purchases(path, currency="CNY")


@needs_shared
def test_the_real_customers_are_all_there() -> None:
    purchases = read_purchases(SHARED / "purchases" / "CDNOW_master.txt", currency="CNY")
    assert len({p.customer for p in purchases}) > 23_000
    assert len({p.customer for p in first_customers(purchases, 2000)}) == 2000


def test_made_purchases_end_before_the_last_day() -> None:
    made = generate_purchases(customers=100, last_ms=10**12)
    assert len({p.customer for p in made}) == 100
    assert max(p.at_ms for p in made) <= 10**12
