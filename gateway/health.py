"""Is the process alive, is it ready, and what does it count: /healthz, /readyz, /metrics."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from gateway import metrics
from gateway.call import Answer, OpenCall
from gateway.database import Database
from gateway.database.migrate import missing_migrations
from gateway.problem import UnknownPath

PICTURE_AGE_S = 2.0  # four polls of the change feed; at 5 s the door refuses (gateway/partners/snapshot.py)
READY_TIMEOUT_S = 1.5  # a database that takes longer for one small table is not there for customers either


@dataclass(frozen=True, slots=True)
class HealthApi:
    """`generation` is the snapshot's, `age_s` since it was surely current; a worker with an old one is not ready.

    `disk_is_full`: nothing can be written.
    """

    database: Database
    generation: Callable[[], int]
    age_s: Callable[[], float]
    disk_is_full: Callable[[], bool]
    metrics_port: int  # not 0: the page is there, and not here

    async def live(self, call: OpenCall) -> Answer:
        """The event loop answers: that is all a liveness probe may ask."""
        return Answer(200, {"status": "alive"})

    async def ready(self, call: OpenCall) -> Answer:
        """200 when this worker can serve; 503 with what is missing, so that a balancer sends nobody."""
        if self.age_s() > PICTURE_AGE_S:
            return Answer(503, {"status": "not ready", "missing": "changes"})
        try:
            async with asyncio.timeout(READY_TIMEOUT_S), self.database.connection() as conn:
                lacking = await missing_migrations(conn)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return Answer(503, {"status": "not ready", "missing": "database"})
        if lacking:
            return Answer(503, {"status": "not ready", "missing": "migrations"})
        if self.disk_is_full():
            return Answer(503, {"status": "not ready", "missing": "disk"})
        return Answer(200, {"status": "ready", "generation": self.generation()})

    async def metrics(self, call: OpenCall) -> Answer:
        """Prometheus text of all workers, rendered outside every worker's event loop."""
        if self.metrics_port:
            raise UnknownPath()
        return Answer(200, await metrics.page(), content_type="text/plain; version=0.0.4; charset=utf-8")
