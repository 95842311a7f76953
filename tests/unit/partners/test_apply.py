"""Applying the agreed folder: versions, differences, and what is refused whole."""

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from rich.console import Console

from gateway import audit
from gateway.database import Database
from gateway.document import DocumentInvalid
from gateway.partners import apply as applying
from gateway.partners.apply import apply, plan
from gateway.partners.folder import AgreedFolder, load_folder
from gateway.partners.plan import Difference, Plan, Step, told
from gateway.partners.plan_table import render

PARTNER, CONTRACT = "partners/metro/partner.toml", "partners/metro/contract.toml"
NOW = 1_760_000_000_000


async def _apply(database: Database, agreed: Any, operations: frozenset[str], *, remove: bool = False) -> Plan:
    return await apply(database, agreed.root, operations, actor="tester", reason="test", now_ms=NOW, remove=remove)


def later_version(agreed: Any, valid_from: str, *, version: int = 2) -> None:
    """contract.toml as the next version, the one of before beside it."""
    agreed.write(f"partners/metro/contract.v{version - 1}.toml", agreed.read(CONTRACT))
    text = agreed.read(CONTRACT).replace(f"version = {version - 1}", f"version = {version}")
    agreed.write(CONTRACT, re.sub(r"valid_from = \S+", f"valid_from = {valid_from}", text))


async def _rows(database: Database, table: str) -> int:
    async with database.connection() as conn:
        return int(await conn.fetchval(f"SELECT count(*) FROM {table}"))


def _steps(made: Plan) -> dict[str, Step]:
    return {f"{document.kind} {document.id}": document.step for document in made.documents}


async def test_the_first_apply_adds_every_document(bare_database: Any, agreed: Any, operations: Any) -> None:
    made = await _apply(bare_database, agreed, operations)
    assert _steps(made) == dict.fromkeys(
        ("policy default", "policy trader", "partner metro", "contract metro-2025"), Step.ADD
    )
    assert [await _rows(bare_database, table) for table in ("document", "change", "audit")] == [4, 4, 4]


async def test_applying_many_partners_asks_the_database_as_often_as_applying_one(
    bare_database: Any, agreed: Any, operations: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand documents were as many statements, one after the other."""
    asked: Counter[str] = Counter()
    for verb in ("execute", "fetch", "fetchrow", "fetchval", "copy_records_to_table"):
        real = getattr(asyncpg.Connection, verb)

        def counting(conn: Any, *args: Any, real: Any = real, **named: Any) -> Any:
            asked["questions"] += 1
            return real(conn, *args, **named)

        monkeypatch.setattr(asyncpg.Connection, verb, counting)
    monkeypatch.setattr(asyncpg.Connection, "executemany", None)  # a statement a row, whatever it is called
    await _apply(bare_database, agreed, operations)
    few, contract = asked.total(), agreed.read(CONTRACT)
    for number in range(40):
        agreed.add_partner(f"p{number}")
        agreed.write(f"partners/p{number}/contract.toml", contract.replace("metro-2025", f"p{number}-2025"))
    asked.clear()
    assert len((await _apply(bare_database, agreed, operations)).steps) == 80
    assert asked.total() <= few


async def test_a_plan_writes_nothing(bare_database: Any, agreed: Any, operations: Any) -> None:
    assert len((await plan(bare_database, agreed.root, operations, now_ms=NOW)).steps) == 4
    assert [await _rows(bare_database, table) for table in ("document", "change", "audit")] == [0, 0, 0]


async def test_applying_again_writes_nothing(bare_database: Any, agreed: Any, operations: Any) -> None:
    await _apply(bare_database, agreed, operations)
    agreed.edit(PARTNER, 'trade = "metro"', 'trade = "metro"   # the same terms, spelled with a comment')
    again = await _apply(bare_database, agreed, operations)
    assert again.steps == ()
    assert await _rows(bare_database, "document") == 4


async def test_two_who_apply_at_once_write_one_version(bare_database: Any, agreed: Any, operations: Any) -> None:
    made = await asyncio.gather(*(_apply(bare_database, agreed, operations) for _ in range(3)))
    assert sorted(len(each.steps) for each in made) == [0, 0, 4]
    assert await _rows(bare_database, "document") == 4


async def test_a_change_is_a_new_version_and_shows_its_fields(bare_database: Any, agreed: Any, operations: Any) -> None:
    await _apply(bare_database, agreed, operations)
    agreed.edit("policies/trader.toml", "burst = 20", "burst = 30")
    agreed.edit(PARTNER, 'name = "Line 2"', 'name = "Line Two"')
    made = await _apply(bare_database, agreed, operations)
    changed = {f"{document.kind} {document.id}": document for document in made.steps}
    assert changed["policy trader"].version == 2
    assert changed["policy trader"].differences == (Difference("$.rate.burst", 20, 30),)
    assert changed["partner metro"].differences == (Difference("$.site[line-2].name", "Line 2", "Line Two"),)
    async with bare_database.connection() as conn:
        detail = await conn.fetchval("SELECT detail FROM audit WHERE subject = 'policy trader' ORDER BY seq DESC")
        assert detail["changed"] == [["$.rate.burst", 20, 30]]
        assert await audit.verify_chain(conn) == 6


async def test_what_leaves_the_folder_is_withdrawn_and_may_come_back(
    bare_database: Any, agreed: Any, operations: Any
) -> None:
    agreed.add_partner("tram")
    await _apply(bare_database, agreed, operations)
    text = agreed.read("partners/tram/partner.toml")
    (agreed.root / "partners/tram/partner.toml").unlink()
    (agreed.root / "partners/tram").rmdir()
    gone = await _apply(bare_database, agreed, operations, remove=True)
    assert [(step.step, step.id, step.version) for step in gone.steps] == [(Step.REMOVE, "tram", 2)]
    assert (await _apply(bare_database, agreed, operations)).steps == ()
    agreed.write("partners/tram/partner.toml", text)
    back = await _apply(bare_database, agreed, operations)
    assert [(step.step, step.id, step.version) for step in back.steps] == [(Step.ADD, "tram", 3)]


async def test_what_leaves_the_folder_stays_in_force_unless_removal_is_asked_for(
    bare_database: Any, agreed: Any, operations: Any
) -> None:
    agreed.add_partner("tram")
    await _apply(bare_database, agreed, operations)
    (agreed.root / "partners/tram/partner.toml").unlink()
    (agreed.root / "partners/tram").rmdir()
    kept = await _apply(bare_database, agreed, operations)
    assert (kept.steps, [(each.step, each.id) for each in kept.extra]) == ((), [(Step.EXTRA, "tram")])
    assert "apply --remove" in kept.extra[0].note
    assert await _rows(bare_database, "document") == 5
    assert [each.id for each in (await plan(bare_database, agreed.root, operations, now_ms=NOW)).extra] == ["tram"]


async def test_nobody_takes_the_client_id_of_a_partner_that_stays_in_force(
    bare_database: Any, agreed: Any, operations: Any
) -> None:
    agreed.add_partner("tram")
    await _apply(bare_database, agreed, operations)
    (agreed.root / "partners/tram/partner.toml").unlink()
    (agreed.root / "partners/tram").rmdir()
    agreed.edit(PARTNER, 'client_id = "metro-server"', 'client_id = "tram-server"')
    with pytest.raises(DocumentInvalid, match="that of tram, which is in force"):
        await _apply(bare_database, agreed, operations)
    assert (await _apply(bare_database, agreed, operations, remove=True)).steps != ()


async def test_a_folder_that_was_applied_is_not_parsed_again_until_anything_in_it_or_in_force_is_another(
    bare_database: Any, agreed: Any, operations: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _apply(bare_database, agreed, operations)
    read: list[Path] = []

    def counted(folder: Path, operations: frozenset[str]) -> AgreedFolder:
        read.append(folder)
        return load_folder(folder, operations)

    monkeypatch.setattr(applying, "load_folder", counted)
    again = await _apply(bare_database, agreed, operations)
    assert (again.steps, len(again.documents), read) == ((), 4, [])
    agreed.edit("policies/trader.toml", "burst = 20", "burst = 30")
    assert len((await _apply(bare_database, agreed, operations)).steps) == 1
    agreed.edit("policies/trader.toml", "burst = 30", "burst = 20")  # a folder of before, over what is in force now
    assert len((await _apply(bare_database, agreed, operations)).steps) == 1
    assert len(read) == 2


async def test_every_changed_field_is_told_whole_with_its_old_and_new_value(
    bare_database: Any, agreed: Any, operations: Any
) -> None:
    await _apply(bare_database, agreed, operations)
    agreed.edit("policies/trader.toml", '["ListCampaigns", "HoldRedemption"]', '["ListCampaigns", "GetRedemption"]')
    agreed.edit(PARTNER, '"https://metro.example/callback"', f'"https://metro.example/{"long" * 30}"')
    made = await plan(bare_database, agreed.root, operations, now_ms=NOW)
    lines = [told(each) for step in made.steps for each in step.differences]
    assert '$.allow.operations[]: "HoldRedemption" → nothing' in lines
    assert '$.allow.operations[]: nothing → "GetRedemption"' in lines
    assert any(f'{"long" * 30}"' in line and "callback" not in line for line in lines)


async def test_an_applied_contract_version_never_changes(bare_database: Any, agreed: Any, operations: Any) -> None:
    await _apply(bare_database, agreed, operations)
    agreed.edit(CONTRACT, 'title = "A ride for one fen"', 'title = "A ride for nothing"')
    agreed.edit("policies/trader.toml", "burst = 20", "burst = 30")
    with pytest.raises(DocumentInvalid) as refused:
        await _apply(bare_database, agreed, operations)
    assert (refused.value.file, refused.value.key) == (CONTRACT, "$.discount[ride].title")
    assert "write the new terms as version 2" in refused.value.reason
    assert '"A ride for one fen" → "A ride for nothing"' in refused.value.reason
    assert await _rows(bare_database, "document") == 4  # the policy, which was good, was not written either


async def test_new_terms_are_a_new_version_beside_the_old(bare_database: Any, agreed: Any, operations: Any) -> None:
    await _apply(bare_database, agreed, operations)
    later_version(agreed, "2025-10-10")
    made = await _apply(bare_database, agreed, operations)
    assert [(step.id, step.version) for step in made.steps] == [("metro-2025", 2)]
    assert Difference("$.contract.valid_from", "2025-01-01", "2025-10-10") in made.steps[0].differences


async def test_an_older_version_is_not_slipped_in_afterwards(bare_database: Any, agreed: Any, operations: Any) -> None:
    agreed.edit(CONTRACT, "version = 1", "version = 2")
    await _apply(bare_database, agreed, operations)
    agreed.write("partners/metro/contract.v1.toml", agreed.read(CONTRACT).replace("version = 2", "version = 1"))
    with pytest.raises(DocumentInvalid, match="version 2 has been applied already"):
        await _apply(bare_database, agreed, operations)


async def test_a_contract_does_not_move_to_another_partner(bare_database: Any, agreed: Any, operations: Any) -> None:
    agreed.add_partner("tram")
    await _apply(bare_database, agreed, operations)
    (agreed.root / CONTRACT).rename(agreed.root / "partners/tram/contract.toml")
    with pytest.raises(DocumentInvalid, match="is the id of a contract of metro"):
        await _apply(bare_database, agreed, operations)


async def test_a_bad_file_refuses_the_whole_folder(bare_database: Any, agreed: Any, operations: Any) -> None:
    agreed.edit("policies/trader.toml", "burst = 20", "burst = 0")
    for act in (plan(bare_database, agreed.root, operations, now_ms=NOW), _apply(bare_database, agreed, operations)):
        with pytest.raises(DocumentInvalid, match=r"policies/trader\.toml: \$\.rate\.burst: "):
            await act
    assert [await _rows(bare_database, table) for table in ("document", "change", "audit")] == [0, 0, 0]


async def test_the_database_keeps_applied_versions_from_being_edited(
    bare_database: Any, agreed: Any, operations: Any
) -> None:
    await _apply(bare_database, agreed, operations)
    for statement in (
        "UPDATE document SET body = '{}'",
        "DELETE FROM document",
        """INSERT INTO document SELECT kind, id, 9, partner_id, body, sha256, applied_at_ms, applied_by, true
           FROM document WHERE kind = 'contract'""",
    ):
        async with bare_database.connection() as conn:
            with pytest.raises((asyncpg.RestrictViolationError, asyncpg.InsufficientPrivilegeError)):
                await conn.execute(statement)


async def test_a_plan_reads_well_at_a_terminal(bare_database: Any, agreed: Any, operations: Any) -> None:
    await _apply(bare_database, agreed, operations)
    agreed.edit("policies/trader.toml", "burst = 20", "burst = 30")
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(render(await plan(bare_database, agreed.root, operations, now_ms=NOW)))
    assert "$.rate.burst: 20 → 30" in capture.get()
    assert "unchanged" in capture.get()
