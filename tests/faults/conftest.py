"""What several of the fault tests stand on."""

from collections.abc import AsyncIterator

import pytest

from tests.faults.referral_room import Room, open_room


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Room]:
    async with open_room(database_url) as opened:
        yield opened
