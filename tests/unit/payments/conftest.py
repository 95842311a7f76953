"""Takings over a database of their own."""

from collections.abc import AsyncIterator

import pytest

from gateway.database import Database
from tests.tills import Takings, open_takings


@pytest.fixture
async def takings(bare_database: Database) -> AsyncIterator[Takings]:
    bank_database = await Database.connect(bare_database.url, pool_size=4)
    yield await open_takings(bare_database, bank_database)
    await bank_database.close()
