"""The partner that sprays and probes: it does not see who banks here, and organic customers pay it nothing."""

from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.clock import now_ms, rfc3339
from tests.api.referral_calls import V1, bank_sees, csv_file, send, token_of
from tests.conftest import World

HOUR = 3_600_000
_EXAMPLES = count(1)
BANKS, COMES, STRANGER = "banks", "comes", "stranger"  # here before the file, after it, never
people = st.lists(
    st.tuples(st.sampled_from([BANKS, COMES, STRANGER]), st.sets(st.sampled_from(["CARD_ACTIVATED", "SPEND"]))),
    min_size=2,
    max_size=9,
)


@given(people, st.integers(0, 2), st.booleans())
@settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
async def test_what_a_probing_partner_sees_does_not_depend_on_who_banks_here(
    world: World, people: list[tuple[str, set[str]]], resends: int, is_told_backwards: bool
) -> None:
    example = next(_EXAMPLES)
    phones = [f"+86138{example:04d}{n:04d}" for n in range(len(people))]
    tokens = [await token_of(world, "parkco", phone) for phone in phones]
    named = list(zip(phones, tokens, people, strict=True))
    await open_accounts(world, [phone for phone, _, (who, _) in named if who == BANKS], at_ms=now_ms() - 48 * HOUR)
    results = [await spray(world, tokens, number=f"{example}-{n}") for n in range(resends + 1)]
    await open_accounts(world, [phone for phone, _, (who, _) in named if who == COMES], at_ms=now_ms())
    goals = [(phone, kind) for phone, _, (who, kinds) in named if who != STRANGER for kind in sorted(kinds)]
    await reach(world, goals[::-1] if is_told_backwards else goals)

    seen = {token: await view(world, token, results) for token in tokens}
    paid = {token for _, token, (who, kinds) in named if who == COMES and kinds}
    unpaid = [seen[token] for token in tokens if token not in paid]
    assert all(one == unpaid[0] for one in unpaid), "a customer of the bank, a stranger and a newcomer look alike"
    assert {token for token in tokens if seen[token]["List"]["State"] == "PAID"} == paid
    told = b"".join(row["leaf"] for row in await world.sql("SELECT leaf FROM event WHERE partner = 'parkco'"))
    assert not [token for token in tokens if token not in paid and token.encode() in told], "nor in its statements"
    known = {row["token"] for row in await world.sql("SELECT token FROM known_customer WHERE partner_id = 'parkco'")}
    assert set(tokens) <= known, "a hold is no oracle either: it knows everybody whom the partner has named"
    excluded = {claim["CustomerToken"] for claim in await bank_sees(world, "parkco", "?State=EXCLUDED&Limit=500")}
    assert {token for _, token, (who, kinds) in named if who == BANKS and "CARD_ACTIVATED" in kinds} <= excluded


async def open_accounts(world: World, phones: list[str], *, at_ms: int) -> None:
    if phones:
        people = [{"Phone": phone, "OccurredDateTime": rfc3339(at_ms)} for phone in phones]
        done = await world.http.post("/sandbox/v1/customers", json={"Customer": people})
        assert done.status_code == 201, done.text
        await world.do_chores()


async def spray(world: World, tokens: list[str], *, number: str) -> dict[str, str]:
    """The same people again and again, each time with a fresh moment; returns the code of each token's row."""
    file = csv_file(*tokens, touched_ms=now_ms())
    batch = await send(world, "parkco", file.replace(b"consent-", f"consent-{number}-".encode()), number=number)
    answer = await world.client("parkco").call("GET", f"{V1}/referral-batches/{batch['BatchId']}/results")
    return {token: row["Code"] for token, row in zip(tokens, answer.json()["Data"]["Row"], strict=True)}


async def reach(world: World, goals: list[tuple[str, str]]) -> None:
    if goals:
        amount = {"Amount": {"Amount": "99.00", "Currency": "CNY"}}
        events = [
            {"EventId": f"{kind}-{phone}", "Kind": kind, "Phone": phone, "OccurredDateTime": rfc3339(now_ms()),
             **(amount if kind == "SPEND" else {})}
            for phone, kind in goals
        ]  # fmt: skip
        told = await world.http.post("/sandbox/v1/customer-events", json={"Event": events})
        assert told.status_code == 202, told.text
        await world.do_chores()


async def view(world: World, token: str, results: list[dict[str, str]]) -> dict[str, Any]:
    """All that the partner can read about one token, without the names of things."""
    client = world.client("parkco")
    listed = (await client.call("GET", f"{V1}/claims?Limit=500")).json()["Data"]["Claim"]
    (claim,) = [one for one in listed if one["CustomerToken"] == token]
    full = (await client.call("GET", f"{V1}/claims/{claim['ClaimId']}")).json()["Data"]
    touches = [{**touch, "ConsentReference": ""} for touch in full.pop("Touch")]
    nameless = {name: value for name, value in full.items() if name not in ("ClaimId", "CustomerToken")}
    shown = {name: value for name, value in claim.items() if name not in ("ClaimId", "CustomerToken")}
    return {"Codes": [codes[token] for codes in results], "List": shown, "Full": nameless, "Touch": touches}
