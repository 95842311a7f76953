"""A small agreed folder that tests may spoil one line at a time, and a database with a schema and nothing in it."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from gateway.database import Database
from gateway.database.migrate import migrate
from gateway.partners.folder import AgreedFolder, load_folder

OPERATIONS = frozenset(("ListCampaigns", "HoldRedemption", "GetRedemption"))
BARE = "parasol_bare"

FILES = {
    "policies/default.toml": """
[policy]
id = "default"
title = "Deny everything"
[allow]
operations = []
scopes = []
currencies = []
networks = []
max_amount_minor = 0
[rate]
per_second = 1
burst = 1
""",
    "policies/trader.toml": """
[policy]
id = "trader"
title = "Trader"
[allow]
operations = ["ListCampaigns", "HoldRedemption"]
scopes = ["discounts", "settlement"]
currencies = ["CNY"]
max_amount_minor = 10_000
[rate]
per_second = 10
burst = 20
""",
    "partners/metro/partner.toml": """
[partner]
id = "metro"
name = "Metro"
name_zh = "地铁"
trade = "metro"
settlement_account = "metro-settlement"
contacts = { technical = "api@metro.example" }
[policy]
use = "trader"
[[site]]
id = "line-1"
name = "Line 1"
mcc = "4111"
[[site]]
id = "line-2"
name = "Line 2"
mcc = "4111"
[[app]]
client_id = "metro-server"
name = "Server"
redirect_uris = ["https://metro.example/callback"]
scopes = ["discounts"]
""",
    "partners/metro/contract.toml": """
[contract]
id = "metro-2025"
version = 1
currency = "CNY"
valid_from = 2025-01-01
[[discount]]
id = "ride"
title = "A ride for one fen"
kind = "cap_price"
pay_minor = 1
when = { site = ["line-1"] }
fund = [{ party = "bank", bps = 6_000 }, { party = "partner", bps = 4_000 }]
[[example]]
given = { discount = "ride", order_minor = 301 }
expect = { off_minor = 300, bank = 180, partner = 120 }
""",
}


@dataclass(frozen=True, slots=True)
class AgreedFiles:
    """partners/ and policies/ in a folder of the test's own."""

    root: Path

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        """Change one place of one file."""
        text = self.read(name)
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
        self.write(name, text.replace(old, new))

    def add_partner(self, partner_id: str) -> None:
        """Another partner like metro, without a contract."""
        text = FILES["partners/metro/partner.toml"].replace("metro", partner_id)
        self.write(f"partners/{partner_id}/partner.toml", text.replace(f'"{partner_id}"\nsettle', '"metro"\nsettle'))

    def load(self) -> AgreedFolder:
        return load_folder(self.root, OPERATIONS)


@pytest.fixture
def agreed(tmp_path: Path) -> AgreedFiles:
    files = AgreedFiles(tmp_path)
    for name, text in FILES.items():
        files.write(name, text)
    return files


@pytest.fixture
def operations() -> frozenset[str]:
    """What a policy of these tests may name."""
    return OPERATIONS


@pytest.fixture(scope="session")
async def bare_template(server_url: str) -> str:
    """Migrated, with nothing applied."""
    admin = await asyncpg.connect(server_url)
    try:
        await admin.execute(f"CREATE DATABASE {BARE}")
    finally:
        await admin.close()
    migrate(_with_name(server_url, BARE))
    return BARE


@pytest.fixture
async def bare_database(server_url: str, bare_template: str) -> AsyncIterator[Database]:
    """An empty database of this test's own."""
    name = f"b_{secrets.token_hex(6)}"
    admin = await asyncpg.connect(server_url)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {bare_template}")
        database = await Database.connect(_with_name(server_url, name), pool_size=4)
        yield database
        await database.close()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


def _with_name(url: str, name: str) -> str:
    head, mark, query = url.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{name}{mark}{query}"
