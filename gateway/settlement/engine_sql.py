"""The engine's SQL, put together from docs/settlement-rules.md §4–§7: expressions over columns and constants."""

from collections.abc import Mapping, Sequence

from gateway.settlement.facts import PARTIES


def _split(amount: str, seed: str, parties: Sequence[str]) -> dict[str, str]:
    """Expressions of §5's legs per party, before the sign: largest remainder, then caps. No window, no sort: the place
    of a remainder is how many others come before it; the tie's digest is only computed where two are equal."""
    base = {p: f"(({amount}) * bps_{p}) // 10000" for p in parties}
    rest = {p: f"(({amount}) * bps_{p}) % 10000" for p in parties}
    spare = f"(({amount}) - (" + " + ".join(f"({base[p]})" for p in parties) + "))"
    legs = {}
    for p in parties:
        before = " + ".join(
            ["0"]
            + [
                f"CASE WHEN ({rest[q]}) > ({rest[p]}) THEN 1 WHEN ({rest[q]}) < ({rest[p]}) THEN 0 "
                f"WHEN bps_{q} = 0 OR bps_{p} = 0 THEN (bps_{p} = 0 AND bps_{q} > 0)::INT "
                f"ELSE (sha256({seed} || '|{q}') < sha256({seed} || '|{p}'))::INT END"
                for q in parties
                if q != p
            ]
        )
        legs[p] = f"({base[p]}) + CASE WHEN {spare} > ({before}) THEN 1 ELSE 0 END"
    return legs


def _capped(raw: Mapping[str, str], parties: Sequence[str]) -> dict[str, str]:
    """What exceeds a capped party's room moves to its overflow party."""
    excess = {p: f"CASE WHEN capped_{p} THEN greatest({raw[p]} - cap_left_minor_{p}, 0) ELSE 0 END" for p in parties}
    return {
        p: " + ".join(
            [f"{raw[p]} - {excess[p]}"]
            + [f"CASE WHEN overflow_{q} = '{p}' THEN {excess[q]} ELSE 0 END" for q in parties if q != p]
        )
        for p in parties
    }


def _split_steps(source: str, amounts: Mapping[str, str], *, seed: str, parties: Sequence[str]) -> str:
    """CTEs that add <name>_<party> columns to `source` for each named amount."""
    raw = [f"{leg} AS raw_{n}_{p}" for n, a in amounts.items() for p, leg in _split(a, seed, parties).items()]
    done = [
        f"{leg} AS {name}_{party}"
        for name in amounts
        for party, leg in _capped({p: f"raw_{name}_{p}" for p in parties}, parties).items()
    ]
    missing = " OR ".join(f"(capped_{p} AND cap_left_minor_{p} IS NULL)" for p in parties)
    return (
        f"raw_{source} AS (SELECT *, {', '.join(raw)} FROM {source}), "
        f"split_{source} AS (SELECT *, {', '.join(done)}, ({missing}) AS cap_unknown FROM raw_{source})"
    )


_OFF = """greatest(0, least(order_minor, coalesce(max_off_minor, order_minor), CASE kind
    WHEN 'cap_price' THEN order_minor - pay_minor WHEN 'amount_off' THEN off_minor
    WHEN 'percent_off' THEN (order_minor * bps) // 10000
    WHEN 'threshold_off' THEN CASE WHEN order_minor >= min_minor THEN off_minor ELSE 0 END END))"""


def _differ(*pairs: tuple[str, str]) -> str:
    return " OR ".join(f"{a} IS DISTINCT FROM {b}" for a, b in pairs)


_TERMS = """SELECT f.seq, f.event_id, f.contract, f.contract_version, f.occurred_at_ms, f.amount_minor, f.discount,
    f.order_minor, f.discount_minor, f.payable_minor, f.original_event_id, f.original_discount_minor,
    f.reversed_before_minor, f.reversed_minor, {maps}, v.version AS in_force, d.* EXCLUDE (contract, version, discount),
    d.discount AS known_discount
    FROM facts f
    LEFT JOIN versions v ON v.contract = f.contract AND v.version = f.contract_version
        AND f.occurred_at_ms >= v.start_ms AND f.occurred_at_ms < v.end_ms
    LEFT JOIN discounts d ON d.contract = f.contract AND d.version = f.contract_version AND d.discount = f.discount
    WHERE f.type = '{type}'"""
_COMMON_FAULTS = """WHEN in_force IS NULL THEN 'its contract version was not in force when it occurred'
             WHEN known_discount IS NULL THEN 'the contract has no such discount'
             WHEN cap_unknown THEN 'it does not say what a capped funder had left'"""


def redemptions(parties: Sequence[str]) -> str:
    """§4 and §5 over confirmed and reversed redemptions: what was paid, what the partner funds, and any fault.

    `parties` are those that some discount names; legs of any other must be absent or zero.
    """
    others = [party for party in PARTIES if party not in parties]
    maps = ", ".join(f"f.{name}_{party}" for name in ("legs", "original_legs", "cap_left_minor") for party in PARTIES)
    remaining = "(original_discount_minor - reversed_before_minor)"
    amounts = {"whole": "original_discount_minor", "before": remaining, "after": f"({remaining} - reversed_minor)"}
    return f"""CREATE OR REPLACE TEMP TABLE redemptions AS WITH
    confirmed AS ({_TERMS.format(maps=maps, type="redemption.confirmed")}),
    {_split_steps("confirmed", {"leg": "discount_minor"}, seed="event_id", parties=parties)},
    reversed AS ({_TERMS.format(maps=maps, type="redemption.reversed")}),
    {_split_steps("reversed", amounts, seed="original_event_id", parties=parties)}
    SELECT seq, event_id, contract, contract_version, discount AS term, discount_minor AS paid,
        {"leg_partner" if "partner" in parties else "0"} AS funded,
        CASE {_COMMON_FAULTS}
             WHEN discount_minor IS NULL OR discount_minor <= 0 OR discount_minor > {_OFF}
                 THEN 'the discount is not what the terms allow for this order'
             WHEN {_differ(("payable_minor", "order_minor - discount_minor"), ("amount_minor", "discount_minor"))}
                 THEN 'order, discount and payable do not add up'
             WHEN {_legs_differ("legs", {p: f"leg_{p}" for p in parties}, others)}
                 THEN 'its legs are not the split of its discount'
        END AS fault
    FROM split_confirmed
    UNION ALL BY NAME
    SELECT seq, event_id, contract, contract_version, discount AS term, -reversed_minor AS paid,
        {"after_partner - before_partner" if "partner" in parties else "0"} AS funded,
        CASE {_COMMON_FAULTS}
             WHEN reversed_minor IS NULL OR reversed_minor <= 0 OR reversed_before_minor < 0
                 OR reversed_before_minor + reversed_minor > original_discount_minor
                 THEN 'more is reversed than was given'
             WHEN amount_minor IS DISTINCT FROM -reversed_minor THEN 'its amount is not what is reversed'
             WHEN {_legs_differ("original_legs", {p: f"whole_{p}" for p in parties}, others)}
                 THEN 'its original legs are not the split of the original discount'
             WHEN {_legs_differ("legs", {p: f"after_{p} - before_{p}" for p in parties}, others)}
                 THEN 'its legs are not the difference of the splits'
        END AS fault
    FROM split_reversed"""


def _legs_differ(column: str, expected: Mapping[str, str], others: Sequence[str]) -> str:
    wanted = {**expected, **dict.fromkeys(others, "0")}
    return _differ(*((f"coalesce({column}_{party}, 0)", leg) for party, leg in wanted.items()))


GOALS = """CREATE OR REPLACE TEMP TABLE goals AS WITH
    known AS (
        SELECT f.seq, f.event_id, f.contract, f.contract_version, f.goal, f.occurred_at_ms, f.anchor_at_ms,
            f.amount_minor AS spend, f.subject_token, v.zone, c.kind, c.bps, c.cap_minor, c.window_ms
        FROM facts f
        JOIN versions v ON v.contract = f.contract AND v.version = f.contract_version
            AND f.occurred_at_ms >= v.start_ms AND f.occurred_at_ms < v.end_ms
        JOIN commissions c ON c.contract = f.contract AND c.version = f.contract_version AND c.goal = f.goal
        WHERE f.type = 'goal.reached'),
    ranked AS (
        SELECT k.* EXCLUDE (zone), k.goal || ' ' || m.month AS month_key, coalesce(o.value, 0)
            + row_number() OVER (PARTITION BY k.goal, m.month ORDER BY k.seq) - 1 AS rank
        FROM known k JOIN months m ON m.zone = k.zone AND k.occurred_at_ms >= m.start_ms AND k.occurred_at_ms < m.end_ms
        LEFT JOIN open_ranks o ON o.key = k.goal || ' ' || m.month
        WHERE k.kind = 'CPA'),
    tiered AS (
        SELECT r.*, s.minor AS amount FROM ranked r JOIN steps s ON s.contract = r.contract
            AND s.version = r.contract_version AND s.goal = r.goal AND r.rank >= s.start AND r.rank < s.until),
    shared AS (
        SELECT k.*, CASE WHEN window_ms IS NULL OR occurred_at_ms <= anchor_at_ms + window_ms
                THEN (spend * bps + 5000) // 10000 ELSE 0 END AS full_share,
            CASE WHEN cap_minor IS NOT NULL THEN concat_ws(' ', contract, contract_version, goal, subject_token)
                END AS customer_key
        FROM known k WHERE kind = 'CPS'),
    summed AS (
        SELECT s.*, coalesce(o.value, 0) + sum(full_share) OVER (PARTITION BY customer_key ORDER BY seq
                ROWS UNBOUNDED PRECEDING) AS run
        FROM shared s LEFT JOIN open_accrued o ON o.key = s.customer_key WHERE customer_key IS NOT NULL)
    SELECT seq, event_id, contract, contract_version, goal AS term, amount, true AS counted, month_key,
        NULL AS customer_key, CASE WHEN spend < 0 THEN 'a goal has no negative amount' END AS fault
    FROM tiered
    UNION ALL BY NAME
    SELECT seq, event_id, contract, contract_version, goal AS term, full_share AS amount, false AS counted,
        CASE WHEN spend < 0 THEN 'a goal has no negative amount' END AS fault FROM shared WHERE customer_key IS NULL
    UNION ALL BY NAME
    SELECT seq, event_id, contract, contract_version, goal AS term,
        (least(run, cap_minor) - least(run - full_share, cap_minor))::BIGINT AS amount, false AS counted, customer_key,
        CASE WHEN spend < 0 THEN 'a goal has no negative amount' END AS fault FROM summed"""

LINES = """CREATE OR REPLACE TEMP TABLE lines AS
    SELECT seq, 1 AS part, event_id, 'discount_paid' AS kind, term, contract, contract_version, paid AS amount_minor
    FROM redemptions
    UNION ALL
    SELECT seq, 2, event_id, 'discount_funding', term, contract, contract_version, -funded FROM redemptions
    UNION ALL
    SELECT seq, 1, event_id, 'commission', term, contract, contract_version, amount FROM goals"""
