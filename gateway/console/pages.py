"""The console's pages: partners with apps and keys, campaigns, statements, the audit trail; no scripts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

import jinja2

from gateway import audit
from gateway.admission.refusals import OperatorNotAccepted
from gateway.call import Answer, OpenCall, Operator
from gateway.clock import rfc3339
from gateway.console.api import partner_members
from gateway.console.session import ConsoleSessions
from gateway.database import Database
from gateway.jobs import store as jobs
from gateway.jobs.api import job_members
from gateway.jobs.model import STATES
from gateway.pages import page_answer, template_environment
from gateway.partners.snapshot import SnapshotKeeper, TermsUnreadable
from gateway.settlement.api import statement_members
from gateway.settlement.ops_api import ALL_STATES
from gateway.settlement.store import statements

SHOWN = 100  # statements, or rows of the trail, on a page
_FORM_LIMIT = 4096  # bytes of a login form
Campaigns = Callable[..., Awaitable[list[dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class ConsolePages:
    """Reading only: what changes anything is an operation of /admin/v1, with its two people and its audit row."""

    database: Database
    snapshots: SnapshotKeeper
    sessions: ConsoleSessions
    campaigns: Campaigns
    templates: jinja2.Environment

    @classmethod
    def build(
        cls, database: Database, *, snapshots: SnapshotKeeper, sessions: ConsoleSessions, campaigns: Campaigns
    ) -> "ConsolePages":
        templates = template_environment(str(files("gateway.console") / "templates"))
        return cls(database, snapshots, sessions, campaigns, templates)

    async def home(self, call: OpenCall) -> Answer:
        """The first page; the login form for somebody we don't know."""
        operator = self.sessions.operator(call)
        if operator is None:
            return self._page("login.html", refused=False)
        snapshot = self.snapshots.current
        partners = sorted(snapshot.partners.values(), key=lambda partner: partner.partner_id)
        running = {p.partner_id: await self._running(p.partner_id, now_ms=call.now_ms) for p in partners}
        async with self.database.connection() as conn:
            rows = await statements.statements(conn, partner_id=None, states=ALL_STATES, limit=SHOWN)
            waiting = await jobs.listed(conn, states=STATES, kind=None, partner_id=None, limit=SHOWN)
            trail = await audit.latest(conn, limit=20, before_seq=None)
        return self._page(
            "home.html",
            operator=operator,
            generation=snapshot.generation,
            partners=[partner_members(partner) for partner in partners],
            unreadable={name: (bad.version, rfc3339(bad.starts_ms)) for name, bad in snapshot.unreadable.items()},
            campaigns=running,
            statements=[statement_members(row) for row in rows],
            jobs=[job_members(job) for job in waiting],
            trail=[{**row, "at": rfc3339(row["at_ms"])} for row in trail],
        )

    async def _running(self, partner_id: str, *, now_ms: int) -> list[dict[str, Any]]:
        """No offers where the terms cannot be read: the page says so beside the partner, and shows everybody else."""
        try:
            return await self.campaigns(partner_id, now_ms=now_ms)
        except TermsUnreadable:
            return []

    async def log_in(self, call: OpenCall) -> Answer:
        """A whole key of somebody active opens a session; everything else is the same no."""
        form = parse_qs(call.raw_body[:_FORM_LIMIT].decode("ascii", "replace"))
        try:
            cookie = self.sessions.open(form.get("key", [""])[0].strip(), now_ms=call.now_ms)
        except OperatorNotAccepted:
            return self._page("login.html", status=401, refused=True)
        return Answer(303, None, (("location", "/console"), cookie))

    async def log_out(self, call: OpenCall) -> Answer:
        return Answer(303, None, (("location", "/console"), self.sessions.close()))

    def _page(self, name: str, *, status: int = 200, operator: Operator | None = None, **values: Any) -> Answer:
        html = self.templates.get_template(name).render(operator=operator, **values)
        return page_answer(html, status=status)
