"""Real workers beside a frozen PostgreSQL: probes and callers are answered in time, and all goes on when it wakes."""

from pathlib import Path

import pytest

from gateway.call import DEADLINE_S
from gateway.database.deadlines import LOOK_S
from tests.conftest import CONSENTS
from tests.faults.test_database_away import READY_S, frozen, timed, try_again, until_ready
from tests.faults.test_workers import partner, served

__all__ = ["served"]  # a fixture
LATE_S = LOOK_S + 1.0  # the deadline's own look, and a busy machine


@pytest.mark.long
async def test_workers_answer_probes_and_callers_while_the_database_stands_still(
    served: tuple[str, Path, int],
) -> None:
    address, home, _ = served
    async with partner(served) as client:
        token = await client.token()
        path = f"{CONSENTS['accounts'][1]}/unknown"
        with frozen(home):
            for _ in range(6):  # whichever worker is asked
                ready, ready_s = await timed(client.http.get(f"{address}/readyz"))
                assert ready.status_code == 503
                assert ready_s < READY_S
                alive, alive_s = await timed(client.http.get(f"{address}/healthz"))
                assert alive.status_code == 200
                assert alive_s < READY_S / 4
            answer, answer_s = await timed(client.call("GET", path, token=token))
            try_again(answer)
            assert answer_s < DEADLINE_S + LATE_S
        await until_ready(client.http, address)  # until then its picture is too old: configuration_stale, by design
        first = await client.call("GET", path, token=token)
        assert first.status_code == 400, first.text
