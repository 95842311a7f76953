"""The console's pages: partners with apps and keys, campaigns, statements, the audit trail; no scripts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2

from gateway import audit
from gateway.call import Answer, OpenCall, Operator
from gateway.clock import rfc3339
from gateway.console.api import partner_members
from gateway.console.session import ConsoleSessions
from gateway.database import Database
from gateway.jobs import store as jobs
from gateway.jobs.api import job_members
from gateway.jobs.model import STATES
from gateway.oauth.asking import read_form
from gateway.pages import page_answer
from gateway.partners.snapshot import SnapshotKeeper, TermsUnreadable
from gateway.settlement.api import statement_members
from gateway.settlement.ops_api import ALL_STATES
from gateway.settlement.store import statements
from gateway.templates import template_environment

SHOWN = 100  # statements, or rows of the trail, on a page
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
        operator = await self.sessions.operator(call)
        if operator is None:
            return self._login_page()
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
            csrf=self.sessions.form_token(call),
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
        cookie = await self.sessions.open(call, read_form(call))
        return Answer(303, None, (("location", "/console"), cookie)) if cookie else self._login_page(status=401)

    async def log_out(self, call: OpenCall) -> Answer:
        """The session ends here and now, not only in this browser."""
        return Answer(303, None, (("location", "/console"), await self.sessions.close(call, read_form(call))))

    def _login_page(self, *, status: int = 200) -> Answer:
        csrf, cookie = self.sessions.login_form()
        return self._page("login.html", status=status, headers=(cookie,), csrf=csrf, refused=status != 200)

    def _page(
        self,
        name: str,
        *,
        status: int = 200,
        operator: Operator | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        **values: Any,
    ) -> Answer:
        html = self.templates.get_template(name).render(operator=operator, **values)
        return page_answer(html, status=status, headers=headers)
