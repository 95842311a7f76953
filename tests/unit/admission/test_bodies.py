"""Waiting for bodies: each has a deadline, all together a cap, and it is the crowd that loses a place."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from gateway.admission.arrival import Arrival
from gateway.admission.bodies import FILES_AT_ONCE, BodyReader
from gateway.admission.refusals import BodyIncomplete, BodyTooLarge, BodyTooSlow, TooManyFiles
from gateway.call import Operation
from gateway.routes import OPERATIONS

OPERATION: Operation = next(op for op in OPERATIONS if op.id == "Token")


def arrival(address: str = "192.0.2.1", *, length: str | None = "5") -> Arrival:
    headers = {"content-length": length} if length is not None else {}
    return Arrival("POST", "/oauth/token", "", headers, frozenset(), address, "id")


def sends(*messages: dict[str, Any]) -> Callable[[], Awaitable[Any]]:
    left = list(messages)

    async def receive() -> Any:
        return left.pop(0)

    return receive


async def never() -> Any:
    await asyncio.Event().wait()


async def test_a_body_in_pieces_is_put_together() -> None:
    reader = BodyReader()
    receive = sends(
        {"type": "http.request", "body": b"he", "more_body": True}, {"type": "http.request", "body": b"llo"}
    )
    assert await reader.read(arrival(), receive, OPERATION) == b"hello"
    assert reader.waiting == 0


@pytest.mark.parametrize("keep", [True, False])
async def test_a_file_is_hashed_as_it_comes_and_kept_where_it_is_wanted(keep: bool) -> None:
    receive = sends(
        {"type": "http.request", "body": b"he", "more_body": True}, {"type": "http.request", "body": b"llo"}
    )
    file = await BodyReader().read_file(arrival(), receive, OPERATION, keep=keep)
    assert (file.content, file.sha256) == (b"hello" if keep else b"", sha256(b"hello").digest())


async def test_a_partner_that_sends_many_files_at_once_fills_no_workers_memory() -> None:
    """One batch could be sent a hundred times over, each of them kept until it was whole."""

    def file_of(partner: str, *, keep: bool = True) -> "asyncio.Task[Any]":
        its = replace(arrival(), partner_id=partner)
        return asyncio.create_task(reader.read_file(its, never, OPERATION, keep=keep))

    reader = BodyReader()
    arriving, one_more = [file_of("parkco") for _ in range(FILES_AT_ONCE)], file_of("parkco")
    await asyncio.sleep(0)
    refused = one_more.exception() if one_more.done() else None
    assert isinstance(refused, TooManyFiles)
    assert dict(refused.headers)["retry-after"] == "5"
    arriving += [file_of("shopco"), file_of("parkco", keep=False)]
    await asyncio.sleep(0)
    assert not [task for task in arriving if task.done()]
    arriving[0].cancel()
    await asyncio.wait([arriving[0]])
    arriving.append(file_of("parkco"))
    await asyncio.sleep(0)
    assert not arriving[-1].done()
    for task in arriving:
        task.cancel()
    await asyncio.gather(*arriving, return_exceptions=True)


async def test_a_body_of_an_unsaid_length_is_cut_at_the_limit() -> None:
    piece = {"type": "http.request", "body": b"x" * OPERATION.body_limit, "more_body": True}
    with pytest.raises(BodyTooLarge):
        await BodyReader().read(arrival(length=None), sends(piece, piece), OPERATION)


async def test_a_caller_that_hangs_up_is_not_waited_for() -> None:
    reader = BodyReader()
    with pytest.raises(BodyIncomplete):
        await reader.read(arrival(), sends({"type": "http.disconnect"}), OPERATION)
    assert reader.waiting == 0


async def test_a_body_that_never_comes_is_given_up_at_its_deadline() -> None:
    reader = BodyReader(patience_s=0.05)
    with pytest.raises(BodyTooSlow):
        await reader.read(arrival(), never, OPERATION)
    assert reader.waiting == 0


async def test_after_a_refused_wait_the_task_goes_on_undisturbed() -> None:
    """The refusal is written by the same task: a cancellation left over would cut its answer off."""
    reader = BodyReader(patience_s=0.05)
    with pytest.raises(BodyTooSlow):
        await reader.read(arrival(), never, OPERATION)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_request_that_the_server_cancels_stays_cancelled() -> None:
    reader = BodyReader()
    task = asyncio.create_task(reader.read(arrival(), never, OPERATION))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reader.waiting == 0


async def test_above_the_cap_the_crowded_address_loses_its_oldest() -> None:
    reader = BodyReader(waiting_limit=4)
    lone = asyncio.create_task(reader.read(arrival("198.51.100.1"), never, OPERATION))
    await asyncio.sleep(0)
    crowd = [asyncio.create_task(reader.read(arrival(), never, OPERATION)) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in crowd] == [True] * 7 + [False] * 3
    assert not lone.done()
    for task in crowd[:7]:
        assert isinstance(task.exception(), BodyTooSlow)
    for task in (lone, *crowd[7:]):
        task.cancel()
    await asyncio.gather(lone, *crowd, return_exceptions=True)
