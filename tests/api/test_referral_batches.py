"""Referral batches through the public door: a no for each yes."""

from typing import Any

import pytest

from tests.api.referral_calls import CSV, PHONE, V1, csv_file, declaration, send, token_of
from tests.conftest import ISSUER, World


async def test_a_batch_gives_a_result_for_each_row(world: World) -> None:
    token = await token_of(world, "parkco", PHONE)
    batch = await send(world, "parkco", csv_file(token, "not-a-token", token))
    assert batch["State"] == "APPLIED"
    assert batch["Counts"] == {"OK": 1, "ERROR": 1, "EXCLUDED": 1}
    client, path = world.client("parkco"), f"{V1}/referral-batches/{batch['BatchId']}/results"
    rows = (await client.call("GET", path)).json()["Data"]["Row"]
    assert [(row["RowNumber"], row["Outcome"], row["Code"]) for row in rows] == [
        (1, "OK", "OK"),
        (2, "ERROR", "TOKEN_MALFORMED"),
        (3, "EXCLUDED", "DUPLICATE_IN_FILE"),
    ]
    errors = (await client.call("GET", f"{path}?Outcome=ERROR")).json()["Data"]["Row"]
    assert [row["RowNumber"] for row in errors] == [2]
    claim = await client.call("GET", f"{V1}/claims/{rows[0]['ClaimId']}")
    assert claim.json()["Data"]["CustomerToken"] == token


async def test_results_come_in_pages(world: World) -> None:
    batch = await send(world, "parkco", csv_file(*(f"bad-{n}" for n in range(5))))
    address = f"{V1}/referral-batches/{batch['BatchId']}/results?Limit=2"
    seen = []
    while address:
        answer = (await world.client("parkco").call("GET", address)).json()
        seen += [row["RowNumber"] for row in answer["Data"]["Row"]]
        address = answer["Links"].get("Next", "").removeprefix(world.client("parkco").issuer)
    assert seen == [1, 2, 3, 4, 5]


async def test_declaring_and_sending_twice_is_once(world: World) -> None:
    file = csv_file(await token_of(world, "parkco", PHONE))
    first = await send(world, "parkco", file)
    again = await send(world, "parkco", file)
    assert again == first
    assert (await world.sql("SELECT count(*) FROM referral_touch"))[0][0] == 1


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"RowCount": 0}, 400, "declaration_malformed"),
        ({"RowCount": 1_000_001}, 400, "declaration_malformed"),
        ({"ControlTotal": 9}, 400, "declaration_malformed"),
        ({"FileSha256": "A" * 64}, 400, "declaration_malformed"),
        ({"OutNumber": ""}, 400, "declaration_malformed"),
        ({"Extra": 1}, 400, "body_malformed"),
        ({"RowCount": "1"}, 400, "body_malformed"),
    ],
)
async def test_a_declaration_that_cannot_be_right_is_refused(
    world: World, changed: dict[str, Any], status: int, code: str
) -> None:
    answer = await world.client("parkco").call(
        "POST", f"{V1}/referral-batches", body=declaration(csv_file("x"), **changed)
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not await world.sql("SELECT FROM referral_batch")


async def test_an_out_number_stands_for_one_declaration(world: World) -> None:
    client = world.client("parkco")
    await send(world, "parkco", csv_file("x"))
    other = await client.call("POST", f"{V1}/referral-batches", body=declaration(csv_file("x", "y"), number="n-1"))
    assert (other.status_code, other.json()["code"]) == (409, "out_number_reused")


async def test_a_file_under_a_second_number_is_refused(world: World) -> None:
    file = csv_file("x")
    await send(world, "parkco", file)
    again = await world.client("parkco").call("POST", f"{V1}/referral-batches", body=declaration(file, number="n-2"))
    assert (again.status_code, again.json()["code"]) == (409, "file_received_before")


async def test_a_file_that_is_not_the_declared_one_is_refused(world: World) -> None:
    client, file = world.client("parkco"), csv_file("x")
    declared = await client.call("POST", f"{V1}/referral-batches", body=declaration(file))
    path = f"{V1}/referral-batches/{declared.json()['Data']['BatchId']}/file"
    changed = await client.call("PUT", path, content=file.replace(b"x", b"y"), headers=CSV)
    assert (changed.status_code, changed.json()["code"]) == (422, "file_not_as_declared")
    typed = await client.call("PUT", path, content=file, headers={"Content-Type": "application/json"})
    assert typed.status_code == 415
    assert not await world.sql("SELECT FROM referral_row")


async def test_another_partner_s_batch_is_unknown(world: World) -> None:
    batch = await send(world, "parkco", csv_file("x"))
    path = f"{V1}/referral-batches/{batch['BatchId']}"
    for method, address in (("GET", path), ("GET", f"{path}/results"), ("PUT", f"{path}/file")):
        answer = await world.client("shopco").call(
            method,
            address,
            content=csv_file("x") if method == "PUT" else None,
            headers=CSV if method == "PUT" else None,
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_resource")


@pytest.mark.parametrize(
    "query", ["Limit=0", "Limit=501", "Limit=x", "Cursor=;", "Outcome=LOST", "State=OK", "Other=1"]
)
async def test_a_query_that_means_nothing_is_refused(world: World, query: str) -> None:
    batch = await send(world, "parkco", csv_file("x"))
    answer = await world.client("parkco").call("GET", f"{V1}/referral-batches/{batch['BatchId']}/results?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "query_malformed")


async def upload(world: World, partner: str, batch: str, *pieces: bytes) -> tuple[int, int]:
    """The status, and how often a piece of the file was asked for."""
    client, path = world.client(partner), f"{V1}/referral-batches/{batch}/file"
    token, left, asked = await client.token("referrals"), list(pieces), []
    proof = client.proof("PUT", ISSUER + path, access_token=token.value)
    given = {"authorization": f"DPoP {token.value}", "dpop": proof, "content-length": "1000000", **CSV}
    headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    scope = {"type": "http", "method": "PUT", "path": path, "raw_path": path.encode(), "query_string": b"",
             "headers": headers, "client": ("127.0.0.1", 1)}  # fmt: skip
    told: list[Any] = []

    async def receive() -> Any:
        asked.append("a piece of the file")
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def answer(message: Any) -> None:
        told.append(message)

    await world.house.edge(scope, receive, answer)
    return told[0]["status"], len(asked)


@pytest.mark.parametrize("whose", ["nobody", "another"])
async def test_a_file_for_no_batch_of_ones_own_is_refused_before_a_byte_of_it_is_read(world: World, whose: str) -> None:
    batch = (await send(world, "parkco", csv_file("x")))["BatchId"] if whose == "another" else "rbt_nothing"
    assert await upload(world, "shopco", batch, b"x") == (404, 0)


async def test_a_file_that_came_in_another_batch_is_refused_before_a_byte_of_it_is_read(world: World) -> None:
    client, file = world.client("parkco"), csv_file("x")
    first, second = [
        (await client.call("POST", f"{V1}/referral-batches", body=declaration(file, number=number))).json()["Data"]
        for number in ("n-1", "n-2")
    ]
    assert (await upload(world, "parkco", first["BatchId"], file))[0] == 202
    assert await upload(world, "parkco", second["BatchId"], file) == (409, 0)


async def test_a_batch_that_has_its_file_only_compares_what_comes_again(world: World) -> None:
    """In pieces that are hashed and dropped: a partner that repeats itself fills no worker's memory."""
    file = csv_file("x")
    batch = await send(world, "parkco", file)
    assert (await upload(world, "parkco", batch["BatchId"], file[:7], file[7:]))[0] == 202
    assert (await upload(world, "parkco", batch["BatchId"], file[:7], b"another"))[0] == 422
