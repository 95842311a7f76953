"""`parasol demo`: one partner's whole journey against a running gateway, step by step, every result checked."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.demo import closing_steps, parking_steps, referral_steps
from gateway.demo.client import CallFailed
from gateway.demo.replay import Replay, read_input, replay_days
from gateway.demo.stage import DemoCannotStart, Stage, open_stage
from gateway.demo.waiting import NeverHappened

TIMEOUT_S = 60.0
CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Step:
    """One leg of the journey."""

    title: str
    walk: Callable[[Stage], Awaitable[RenderableType | None]]


async def get_token(stage: Stage) -> Table:
    """A sender-constrained token; and what happens to one that is stolen."""
    token = await stage.parkco.token()
    path = "/partner/v1/campaigns"
    good = await stage.parkco.call("GET", path)
    stage.checks.expect("a signed call is answered", good.status_code == 200, good.text)
    stolen = await stage.http.get(f"{stage.url}{path}", headers={"Authorization": f"Bearer {token.value}"})
    stage.checks.expect("the stolen token alone is worth nothing", stolen.status_code == 401, stolen.status_code)
    table = Table("Offer", "中文", "Kind", "Left", title="parkco's campaigns · 活动")
    for offer in good.json()["Data"]["Campaign"]:
        left = offer["Budget"].get("Left", {}).get("Amount", "")
        table.add_row(offer["OfferId"], offer["TitleZh"], offer["Kind"], left)
    return table


JOURNEY = (
    Step("0 The business day · 营业日", closing_steps.begin_day),
    Step("1 A sender-constrained token · 获取令牌", get_token),
    Step("2 Customers are brought: batch, QR, a rival · 批量导流", referral_steps.bring_customers),
    Step("3 Goals at the bank, attributed · 目标与归因", referral_steps.reach_goals),
    Step("4 A VRP mandate and a number plate · 授权与车牌", parking_steps.give_mandate),
    Step("5 Cars in and out for one fen, a refund · 停车与退款", parking_steps.park),
    Step("6 Accounts under a consent · 账户查询", parking_steps.read_accounts),
)
CLOSING = (
    Step("7 The day closes; statements that prove themselves · 日切与对账单", closing_steps.close_day),
    Step("8 Metrics, probes, audit, the book · 指标与账簿", closing_steps.look_around),
)


def run_demo(*, url: str, home: Path, replay: Replay | None) -> int:
    """0 only if every check held; raises DemoCannotStart where there is nothing to drive."""
    return asyncio.run(_run(url.rstrip("/"), home, replay))


async def _run(url: str, home: Path, replay: Replay | None) -> int:
    console = Console(emoji=False)  # account names have colons
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as http:
        stage = open_stage(http, url=url, home=home)
        await _meet(http, url, stage.parkco.issuer)
        if replay is not None:
            read_input(replay, console)
        steps = [*JOURNEY, *([_replay_step(replay)] if replay else []), *CLOSING]
        started = time.monotonic()
        await _walk(steps, stage, console)
        return _conclude(stage, console, seconds=time.monotonic() - started)


async def _meet(http: httpx.AsyncClient, url: str, issuer: str) -> None:
    """Raises DemoCannotStart where no gateway answers, or another one than the credentials are for."""
    if issuer.rstrip("/") != url:
        raise DemoCannotStart(f"These credentials are for {issuer}, not for {url}: name that --url, or another --home")
    try:
        alive = (await http.get(f"{url}/healthz")).status_code == 200
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        alive = False
    if not alive:
        raise DemoCannotStart(f"No gateway answers at {url}: start `parasol serve --sandbox` first, or name its --url")


async def _walk(steps: Sequence[Step], stage: Stage, console: Console) -> None:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(steps))
        for step in steps:
            progress.update(task, description=step.title)
            before = len(stage.checks.failed)
            try:
                shown = await step.walk(stage)
            except (CallFailed, NeverHappened, httpx.HTTPError, KeyError, ValueError) as error:
                stage.checks.expect(step.title, False, f"{type(error).__name__}: {error}")
                shown = None
            mark = "[green]✓[/]" if len(stage.checks.failed) == before else "[red]✗[/]"
            console.print(f"{mark} {step.title}")
            if shown is not None:
                console.print(shown)
            progress.advance(task)


def _replay_step(replay: Replay) -> Step:
    async def walk(stage: Stage) -> RenderableType:
        return await replay_days(stage, replay)

    return Step("6b A real day of car parks, real purchases · 真实数据回放", walk)


def _conclude(stage: Stage, console: Console, *, seconds: float) -> int:
    checks = stage.checks
    for failure in checks.failed:
        console.print(f"✗ {failure}", style="red", markup=False, highlight=False, soft_wrap=True)
    style = "bold red" if checks.failed else "bold green"
    console.print(f"{checks.held} checks held, {len(checks.failed)} failed, in {seconds:.1f} s", style=style)
    return 1 if checks.failed else 0
