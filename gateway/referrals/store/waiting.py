"""SQL of what waits: goals for an earlier beginning or for terms, customers for a decision; and what is set aside."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.database import Connection
from gateway.referrals.goal import GoalOutcome
from gateway.referrals.model import GoalReached, Joining, Tenure

Key = tuple[str, int]  # a customer and the moment of joining
_ASIDE_CHARACTERS = 100  # of a bank's word that is kept of an event set aside


@dataclass(frozen=True, slots=True)
class Undecided:
    """A customer whose decision waits, with the (partner, token) under which partners name the person."""

    joining: Joining
    tokens: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A goal that waits, and for what."""

    goal: GoalReached
    outcome: GoalOutcome


async def waiting_goals(conn: Connection, keys: Collection[Key]) -> dict[Key, dict[str, Waiting]]:
    """The goals of these customers that wait, by event; without phone and tenures, which are not kept."""
    found: dict[Key, dict[str, Waiting]] = {}
    if not keys:
        return found
    for row in await conn.fetch(
        """SELECT g.bank_event_id, g.goal, g.customer_id, g.joined_at_ms, g.amount_minor, g.currency, g.occurred_at_ms,
                  g.outcome
           FROM unnest($1::text[], $2::bigint[]) AS wanted (customer_id, joined_at_ms)
           JOIN referral_goal g USING (customer_id, joined_at_ms)
           WHERE g.outcome IN ('waits_for_anchor', 'waits_for_owner', 'waits_for_terms')""",
        *as_columns(list(keys), 2),
    ):
        goal = GoalReached(
            row["bank_event_id"], row["goal"], row["customer_id"], "", row["amount_minor"], row["currency"],
            row["occurred_at_ms"], (), row["occurred_at_ms"],
        )  # fmt: skip
        waiting = found.setdefault((row["customer_id"], row["joined_at_ms"]), {})
        waiting[goal.bank_event_id] = Waiting(goal, GoalOutcome(row["outcome"]))
    return found


async def judged_later(conn: Connection, *, after: Key, limit: int) -> list[tuple[Key, bool]]:
    """(customer, joining) of goals that wait for an owner or for terms, behind `after`, and whether a file that names
    the customer is still to be applied: until then there is nothing new to judge."""
    rows = await conn.fetch(
        """SELECT w.customer_id, w.joined_at_ms, EXISTS (
               SELECT FROM referral_undecided u, unnest(u.partner_ids, u.tokens) AS t (partner_id, token)
               JOIN referral_batch b ON b.partner_id = t.partner_id AND b.state IN ('RECEIVED', 'APPLYING')
               CROSS JOIN LATERAL (SELECT hashes FROM referral_file_tokens f
                                   WHERE f.batch_id = b.batch_id AND f.first_hash <= hashtextextended(t.token, 0)
                                   ORDER BY f.first_hash DESC LIMIT 1) AS piece
               WHERE u.customer_id = w.customer_id AND u.joined_at_ms = w.joined_at_ms
                 AND b.received_at_ms < w.joined_at_ms AND hashtextextended(t.token, 0) = ANY (piece.hashes)) AS blocked
           FROM (SELECT DISTINCT customer_id, joined_at_ms FROM referral_goal
                 WHERE outcome IN ('waits_for_owner', 'waits_for_terms')
                   AND (customer_id, joined_at_ms) > ($1, $2::bigint)
                 ORDER BY customer_id, joined_at_ms LIMIT $3) AS w ORDER BY 1, 2""",
        *after, limit,
    )  # fmt: skip
    return [((row["customer_id"], row["joined_at_ms"]), row["blocked"]) for row in rows]


async def undecided(conn: Connection, keys: Collection[Key]) -> dict[Key, Undecided]:
    """Customers whose decision has waited, of these."""
    found: dict[Key, Undecided] = {}
    if not keys:
        return found
    rows = await conn.fetch(
        """SELECT customer_id, joined_at_ms, tenures, partner_ids, tokens FROM referral_undecided
           JOIN unnest($1::text[], $2::bigint[]) AS wanted (customer_id, joined_at_ms)
                USING (customer_id, joined_at_ms)""",
        *as_columns(list(keys), 2),
    )
    for row in rows:
        edges = row["tenures"]
        tenures = tuple(Tenure(since, until or None) for since, until in zip(edges[::2], edges[1::2], strict=True))
        joining = Joining(row["customer_id"], row["joined_at_ms"], tenures)
        found[joining.key] = Undecided(joining, tuple(zip(row["partner_ids"], row["tokens"], strict=True)))
    return found


async def keep_undecided(conn: Connection, waiting: Iterable[Undecided]) -> None:
    await conn.executemany(
        """INSERT INTO referral_undecided (customer_id, joined_at_ms, tenures, partner_ids, tokens)
           VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING""",
        [
            (*one.joining.key, [edge for t in one.joining.tenures for edge in (t.since_ms, t.until_ms or 0)],
             [partner_id for partner_id, _ in one.tokens], [token for _, token in one.tokens])
            for one in waiting
        ],
    )  # fmt: skip


async def forget_undecided(conn: Connection, keys: Collection[Key]) -> None:
    await conn.execute(
        """DELETE FROM referral_undecided AS u
           USING unnest($1::text[], $2::bigint[]) AS done (customer_id, joined_at_ms)
           WHERE u.customer_id = done.customer_id AND u.joined_at_ms = done.joined_at_ms""",
        *as_columns(list(keys), 2),
    )


async def set_aside(conn: Connection, events: Sequence[tuple[str, str, str, str]], *, now_ms: int) -> None:
    """(cursor, bank event, goal, reason); only what is printable of the bank's words is kept."""
    rows = [(cursor, *(_plain(text) for text in texts)) for cursor, *texts in events]
    await conn.execute(
        """INSERT INTO referral_goal_aside (feed_cursor, bank_event_id, goal, reason, set_aside_at_ms)
           SELECT *, $5::bigint FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING""",
        *as_columns(rows, 4), now_ms,
    )  # fmt: skip


def _plain(text: str) -> str:
    return "".join(character if " " <= character <= "~" else "?" for character in text[:_ASIDE_CHARACTERS])


def as_columns(rows: Sequence[tuple[Any, ...]], width: int, *, numbers: Collection[int] = ()) -> list[Any]:
    """Rows as unnest wants them: one list a column, `width` empty ones where there is no row. The columns `numbers` are
    the text of an array, for `$1::text::bigint[]`: asyncpg asks of each member of a list whether it is a list."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
    return [_array(column) if place in numbers else column for place, column in enumerate(columns)]


def _array(column: Sequence[int | None]) -> str:
    return f"{{{','.join(['NULL' if number is None else str(number) for number in column])}}}"
