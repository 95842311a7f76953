"""Rates of addresses: exact for each, bounded for all, shared by processes, not to be aimed at anybody."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.policies.policy import Rate
from gateway.policies.throttle import SETS, WAYS, Throttle, neighbourhood

NOW = 1_790_000_000_000
RATE = Rate(1, 3)


def through(throttle: Throttle, key: str, *, tries: int = 10, now_ms: int = NOW) -> int:
    return sum(throttle.wait_ms(key, RATE, now_ms=now_ms) == 0 for _ in range(tries))


def test_a_burst_is_let_through_and_then_the_wait_is_said() -> None:
    throttle = Throttle(None, secret=b"s")
    assert through(throttle, "a") == 3
    assert throttle.wait_ms("a", RATE, now_ms=NOW) == 1000
    assert throttle.wait_ms("a", RATE, now_ms=NOW + 1000) == 0
    assert throttle.wait_ms("a", RATE, now_ms=NOW + 1000) == 1000


def test_a_look_takes_nothing() -> None:
    throttle = Throttle(None, secret=b"s")
    assert all(throttle.wait_ms("a", RATE, now_ms=NOW, take=False) == 0 for _ in range(10))
    assert through(throttle, "a") == 3


def test_what_is_given_back_can_be_taken_again_and_nothing_more() -> None:
    throttle = Throttle(None, secret=b"s")
    throttle.give_back("a", RATE)  # nothing was taken
    assert through(throttle, "a") == 3
    throttle.give_back("b", RATE)
    assert through(throttle, "a") == 0
    throttle.give_back("a", RATE)
    assert through(throttle, "a") == 1


@pytest.mark.parametrize("take", [True, False])
def test_a_clock_that_was_set_back_does_not_shut_anybody_out_for_long(take: bool) -> None:
    throttle = Throttle(None, secret=b"s")
    assert through(throttle, "a", now_ms=NOW + 86_400_000) == 3
    assert throttle.wait_ms("a", RATE, now_ms=NOW, take=take) == 1000
    assert throttle.wait_ms("a", RATE, now_ms=NOW + 1000, take=take) == 0


def test_keys_do_not_share_a_rate() -> None:
    throttle = Throttle(None, secret=b"s")
    assert through(throttle, "a") == 3
    assert through(throttle, "b") == 3


def test_a_hundred_thousand_strangers_take_no_more_room_and_a_refused_one_is_refused_still() -> None:
    """The busiest entries of a set stay, as they are the ones that hold somebody back."""
    throttle = Throttle(None, secret=b"s")
    through(throttle, "guessing", tries=3)
    for number in range(100_000):
        throttle.wait_ms(f"stranger {number}", RATE, now_ms=NOW)
    assert SETS * WAYS < 100_000
    assert throttle.wait_ms("guessing", RATE, now_ms=NOW) > 0


def test_what_one_process_counted_the_next_one_knows(tmp_path: Path) -> None:
    path = tmp_path / "throttle"
    mine = Throttle(path, secret=b"s")
    code = (
        "import sys; from pathlib import Path; from gateway.policies.throttle import Throttle; "
        "from gateway.policies.policy import Rate; t = Throttle(Path(sys.argv[1]), secret=b's'); "
        f"print(sum(t.wait_ms('a', Rate(1, 3), now_ms={NOW}) == 0 for _ in range(2)))"
    )
    other = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == "2"
    assert through(mine, "a") == 1
    mine.close()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("", "", True),
    ],
)
def test_who_owns_one_address_of_ipv6_owns_its_whole_network(one: str, other: str, same: bool) -> None:
    assert (neighbourhood(one) == neighbourhood(other)) is same
