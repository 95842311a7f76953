"""Watched tasks: what fails goes on, what ends unasked ends its process, a cancellation is never lost."""

import ast
import asyncio
from collections.abc import Iterator

import pytest

from gateway import watched
from gateway.watched import keep_doing, watch
from tests.tidy.house import modules

PATIENCE_S = 5.0


class Told:
    """Counts in the place of the metrics, and remembers that the process would have ended."""

    def __init__(self) -> None:
        self.counted: list[tuple[str, str]] = []
        self.ended = asyncio.Event()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    found = Told()
    monkeypatch.setattr(watched.ways, "count", lambda outcome, task: found.counted.append((outcome, task)))
    monkeypatch.setattr(watched.ways, "end_process", found.ended.set)
    monkeypatch.setattr(watched, "PAUSES_S", (0.0,))
    return found


async def test_a_task_that_ends_unasked_is_counted_and_ends_its_process(told: Told) -> None:
    async def short() -> None:
        return

    async def broken() -> None:
        raise RuntimeError("a bug")

    for work in (short, broken):
        told.ended.clear()
        watch("feed", work())
        async with asyncio.timeout(PATIENCE_S):
            await told.ended.wait()
    assert told.counted == [("ended", "feed")] * 2


async def test_a_task_that_somebody_else_cancels_ends_its_process_too(told: Told) -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    watched.Watched("feed", task)  # type: ignore[arg-type]
    task.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await told.ended.wait()


async def test_a_task_that_was_asked_to_end_does_and_nobody_is_told(told: Told) -> None:
    task = watch("feed", keep_doing("feed", asyncio.Event().wait))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await task.end()
    assert not told.counted
    assert not told.ended.is_set()


async def test_whatever_a_turn_raises_the_next_one_comes(told: Told) -> None:
    """A dropped database session raised a plain Exception, and the loop was over: suspended partners were served."""
    raised = [RuntimeError("a bug"), OSError("gone"), asyncio.CancelledError("of a future that it awaited")]
    went_on = asyncio.Event()

    async def turn() -> None:
        if raised:
            raise raised.pop()
        went_on.set()
        await asyncio.Event().wait()

    task = watch("feed", keep_doing("feed", turn))
    async with asyncio.timeout(PATIENCE_S):
        await went_on.wait()
        await task.end()
    assert told.counted == [("failed", "feed")] * 3
    assert not told.ended.is_set()


async def waiting(wake: asyncio.Event) -> None:
    while True:
        try:
            async with asyncio.timeout(60):
                await wake.wait()
        except TimeoutError:
            pass
        wake.clear()


async def test_a_cancellation_that_meets_a_notification_is_not_lost() -> None:
    """With asyncio.wait_for, on Python 3.11, it is: the event wins, and the loop that was told to end goes on."""
    wake = asyncio.Event()
    task = asyncio.create_task(waiting(wake))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    wake.set()
    task.cancel()  # in the same turn of the loop
    done, _ = await asyncio.wait((task,), timeout=PATIENCE_S)
    assert done
    assert task.cancelled()


async def test_a_library_that_swallows_a_cancellation_is_asked_again(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "CANCEL_AGAIN_S", 0.05)

    async def deaf_once() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    task = watch("feed", deaf_once())
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await task.end()
    assert not told.counted


async def test_the_end_of_a_task_that_never_ends_is_not_waited_for_for_ever(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "CANCEL_AGAIN_S", 0.01)
    monkeypatch.setattr(watched, "END_S", 0.05)
    enough = asyncio.Event()

    async def deaf() -> None:
        while not enough.is_set():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    running = asyncio.create_task(deaf())
    task = watched.Watched("feed", running)
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await task.end()
    assert told.counted == [("left_behind", "feed")]
    enough.set()
    running.cancel()
    await asyncio.wait((running,), timeout=PATIENCE_S)


def calls_that_lose_cancellations() -> Iterator[str]:
    for module in modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            called, arguments = ast.unparse(node.func), [ast.unparse(argument) for argument in node.args]
            if called.endswith("asyncio.wait_for") or (
                called.endswith("suppress") and any("CancelledError" in argument for argument in arguments)
            ):
                yield f"{module.name}:{node.lineno} {called}"


def test_nothing_waits_in_a_way_that_loses_a_cancellation() -> None:
    """asyncio.timeout in the place of wait_for; Watched.end in the place of suppressing one's own cancellation."""
    assert not list(calls_that_lose_cancellations())
