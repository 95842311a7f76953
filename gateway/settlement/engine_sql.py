"""The engine's SQL over one stretch of facts, put together from docs/settlement-rules.md §4–§8. Integers only."""

from collections.abc import Mapping, Sequence

NOT_IN_FORCE = "its contract version was not the one in force when it occurred"
_CHANCES = 2**32  # what `chance` counts in: §6's n
_BPS = 10_000


def _share(amount: str, bps: str) -> str:
    """⌊amount · bps / 10000⌋ of an amount that is not negative; amounts of 10^15 stay within 64 bits."""
    return f"(({amount}) // {_BPS} * {bps} + (({amount}) % {_BPS} * {bps}) // {_BPS})"


def _upto(amount: str, party: str) -> str:
    """§6: ⌊amount · C(party)/10000 + u⌋, the units of the parties up to this one."""
    rest = f"(({amount}) % {_BPS} * upto_{party} % {_BPS})"
    carry = f"({rest} * {_CHANCES} + chance * {_BPS} >= {_BPS * _CHANCES})::BIGINT"
    return f"({_share(amount, f'upto_{party}')} + {carry})"


def _split(amount: str, parties: Sequence[str]) -> dict[str, str]:
    """Units a party before caps; `parties` in the order of the split."""
    uptos = [_upto(amount, party) for party in parties]
    return {
        party: f"{uptos[i]} - {uptos[i - 1]}" if i else uptos[i] for i, party in enumerate(parties)
    }  # fmt: skip


def _after_caps(raw: Mapping[str, str], capped: Sequence[str]) -> dict[str, str]:
    """What exceeds the room of a capped party moves to its overflow party."""
    excess = {
        p: f"CASE WHEN cap_{p} IS NOT NULL THEN greatest({raw[p]} - left_{p}, 0) ELSE 0 END" for p in raw if p in capped
    }
    return {
        p: " + ".join(
            [f"{raw[p]} - {excess[p]}" if p in excess else raw[p]]
            + [f"CASE WHEN overflow_{q} = '{p}' THEN {excess[q]} ELSE 0 END" for q in excess if q != p]
        )
        for p in raw
    }


def _map_text(kind: str, shapes: Sequence[str], values: Mapping[str, str]) -> str:
    """Canonical JSON of party → number; `kind` is the column with the names, `shapes` what it holds."""
    whens = " ".join(f"WHEN '{shape}' THEN {_object(shape.split(), values)}" for shape in shapes)
    return f"CASE {kind} {whens} END"


def _object(parties: Sequence[str], values: Mapping[str, str]) -> str:
    if not parties:
        return "'{}'"
    inner = " || ',' || ".join(f"'\"{party}\":' || ({values[party]})" for party in parties)
    return f"'{{' || {inner} || '}}'"


_OFF = f"""greatest(0, least(order_minor, coalesce(max_off_minor, order_minor), CASE kind
    WHEN 'cap_price' THEN order_minor - pay_minor WHEN 'amount_off' THEN off_minor
    WHEN 'percent_off' THEN {_share("order_minor", "bps")}
    WHEN 'threshold_off' THEN CASE WHEN order_minor >= min_minor THEN off_minor ELSE 0 END END))"""
_LOCAL = "(occurred_at_ms + offset_ms)"
_APPLIES = f"""order_minor >= least_minor
    AND (mccs IS NULL OR coalesce(list_contains(mccs, mcc), false))
    AND (sites IS NULL OR coalesce(list_contains(sites, site), false))
    AND (weekdays IS NULL OR list_contains(weekdays, ({_LOCAL} // 86400000 + 3) % 7 + 1))
    AND (from_minute IS NULL OR ({_LOCAL} % 86400000 // 60000 >= from_minute
                                 AND {_LOCAL} % 86400000 // 60000 < until_minute))"""
_IN_FORCE = """LEFT JOIN spans v ON v.contract = f.contract AND v.version = f.contract_version
        AND f.seq >= v.from_seq AND f.seq < v.until_seq
        AND f.occurred_at_ms >= v.start_ms AND f.occurred_at_ms < v.end_ms"""
_CLOCK = """LEFT JOIN clocks k ON k.zone = v.zone AND k.day = f.occurred_at_ms // 86400000
        AND f.occurred_at_ms >= k.start_ms AND f.occurred_at_ms < k.end_ms"""
_FAULTS = f"""WHEN known_currency IS NULL THEN '{NOT_IN_FORCE}'
        WHEN known_currency <> currency THEN 'its contract version has another currency'
        WHEN funders IS NULL THEN 'the contract version has no such discount'
        WHEN NOT coalesce(ends_with(seed, '|' || redemption_id), false) THEN 'its seed is not its redemption''s'"""


class Redemptions:
    """§5 and §6 for the parties and caps that some discount has: what nobody agreed costs nothing."""

    def __init__(self, *, parties: Sequence[str], funders: Sequence[str], capped: Sequence[str], clocked: bool) -> None:
        """`funders`, `capped`: the sets of parties (as texts) that discounts have."""
        self._parties, self._funders, self._capped_sets = parties, funders, capped
        self.capped = [party for party in parties if any(party in kind.split() for kind in capped)]
        self._clock = _CLOCK if clocked else ""
        self._offset = "offset_ms" if clocked else "0 AS offset_ms"

    def create(self) -> str:
        """The table `redemptions`: what was paid, what the partner funds, what capped parties took, and any fault."""
        whole = "(original_discount_minor - reversed_before_minor)"
        amounts = {"whole": "original_discount_minor", "before": whole, "after": f"({whole} - reversed_minor)"}
        return f"""CREATE OR REPLACE TEMP TABLE redemptions AS WITH
            confirmed AS ({self._of("redemption.confirmed")}),
            {self._steps("confirmed", {"leg": "discount_minor"})},
            reversed AS ({self._of("redemption.reversed")}),
            {self._steps("reversed", amounts)}
            {self._room()}
            {self._confirmed()} UNION ALL BY NAME {self._reversed()}"""

    def _of(self, kind: str) -> str:
        left = "".join(
            f", CASE WHEN TRY_CAST(cap_left_minor ->> '$.{p}' AS BIGINT) BETWEEN 0 AND cap_{p} "
            f"THEN TRY_CAST(cap_left_minor ->> '$.{p}' AS BIGINT) END AS left_{p}"
            for p in self.capped
        )
        return f"""SELECT f.*, v.known_currency, v.line_head, d.* EXCLUDE (contract, version, discount),
                ('0x' || substr(sha256(f.seed), 1, 8))::BIGINT AS chance, {self._offset}{left}
            FROM facts f {_IN_FORCE} {self._clock}
            LEFT JOIN discounts d
                ON d.contract = f.contract AND d.version = f.contract_version AND d.discount = f.discount
            WHERE f.type = '{kind}' AND f.currency = $currency"""

    def _steps(self, source: str, amounts: Mapping[str, str]) -> str:
        """CTEs that add <name>_<party> columns to `source` for each named amount."""
        raw = [f"{leg} AS raw_{n}_{p}" for n, a in amounts.items() for p, leg in _split(a, self._parties).items()]
        done = [
            f"{leg} AS {name}_{party}"
            for name in amounts
            for party, leg in _after_caps({p: f"raw_{name}_{p}" for p in self._parties}, self.capped).items()
        ]
        return (
            f"raw_{source} AS (SELECT *, {', '.join(raw)} FROM {source}), "
            f"split_{source} AS (SELECT *, {', '.join(done)} FROM raw_{source})"
        )

    def _room(self) -> str:
        """What capped parties had funded before each redemption. It trusts `cap_left_minor` of those before it, which
        is compared as well: the first one that is wrong is found."""
        if not self.capped:
            return ""
        sums = ", ".join(
            f"coalesce(o.{p}, 0) + coalesce(sum(CASE WHEN cap_{p} IS NOT NULL THEN leg_{p} END) OVER earlier, 0) "
            f"AS funded_{p}"
            for p in self.capped
        )
        return f""", room AS (SELECT s.seq, {sums} FROM split_confirmed s
            LEFT JOIN funded_before o ON o.contract = s.contract AND o.discount = s.discount
            WHERE s.capped <> '' WINDOW earlier AS (PARTITION BY s.contract, s.discount ORDER BY s.seq
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING))"""

    def _confirmed(self) -> str:
        legs = {p: f"leg_{p}" for p in self._parties}
        left = {p: f"greatest(cap_{p} - funded_{p}, 0)" for p in self.capped}
        took = "".join(f", CASE WHEN cap_{p} IS NOT NULL THEN leg_{p} END AS took_{p}" for p in self.capped)
        return f"""SELECT s.seq, part, event_id, contract, discount, line_head, term_json, discount_minor AS paid,
            {self._partner("leg_partner")} AS funding{took},
            CASE {_FAULTS}
                WHEN NOT coalesce(discount_minor > 0 AND discount_minor <= {_OFF}, false)
                    THEN 'the discount is not what the terms allow for this order'
                WHEN payable_minor IS DISTINCT FROM order_minor - discount_minor
                    OR amount_minor IS DISTINCT FROM discount_minor THEN 'order, discount and payable do not add up'
                WHEN NOT coalesce({_APPLIES}, false) THEN 'the conditions of its discount do not hold'
                WHEN cap_left_minor IS DISTINCT FROM {_map_text("capped", self._capped_sets, left)}
                    THEN 'cap_left_minor is not what its capped funders had left'
                WHEN legs IS DISTINCT FROM {_map_text("funders", self._funders, legs)}
                    THEN 'its legs are not the split of its discount'
            END AS fault
            FROM split_confirmed s {"LEFT JOIN room r ON r.seq = s.seq" if self.capped else ""}"""

    def _reversed(self) -> str:
        whole = {p: f"whole_{p}" for p in self._parties}
        change = {p: f"after_{p} - before_{p}" for p in self._parties}
        differs = " OR ".join(f"o.own_{name} IS DISTINCT FROM {told}" for name, told in _REPEATED.items())
        return f"""SELECT seq, part, event_id, contract, discount, line_head, term_json, -reversed_minor AS paid,
            {self._partner("after_partner - before_partner")} AS funding,
            CASE {_FAULTS}
                WHEN o.own_seq IS NOT NULL AND (o.own_seq > seq OR {differs}) THEN 'it does not repeat its original'
                WHEN NOT coalesce(reversed_minor > 0 AND reversed_before_minor >= 0
                    AND reversed_before_minor + reversed_minor <= original_discount_minor, false)
                    THEN 'more is reversed than was given'
                WHEN amount_minor IS DISTINCT FROM -reversed_minor THEN 'its amount is not what is reversed'
                WHEN NOT coalesce({self._left_told()}, false)
                    THEN 'cap_left_minor is not what its capped funders had left'
                WHEN original_legs IS DISTINCT FROM {_map_text("funders", self._funders, whole)}
                    THEN 'its original legs are not the split of the original discount'
                WHEN legs IS DISTINCT FROM {_map_text("funders", self._funders, change)}
                    THEN 'its legs are not the difference of the splits'
            END AS fault
            FROM split_reversed LEFT JOIN originals o ON o.own_event_id = original_event_id"""

    def _left_told(self) -> str:
        """That a reversal says for each capped party, and no other, what it had left, from 0 to its cap."""
        held = " AND ".join(f"(cap_{p} IS NULL OR left_{p} BETWEEN 0 AND cap_{p})" for p in self.capped) or "true"
        told = {p: f"left_{p}" for p in self.capped}
        return f"{held} AND cap_left_minor = {_map_text('capped', self._capped_sets, told)}"

    def _partner(self, leg: str) -> str:
        return leg if "partner" in self._parties else "0"


_REPEATED = {
    **{name: name for name in ("redemption_id", "seed", "discount", "contract", "contract_version", "cap_left_minor")},
    "discount_minor": "original_discount_minor", "legs": "original_legs",
}  # fmt: skip
# What reversals of this statement are compared with: their originals, where these are in it.
ORIGINALS = f"""CREATE OR REPLACE TEMP TABLE originals AS
    SELECT event_id AS own_event_id, seq AS own_seq, {", ".join(f"{name} AS own_{name}" for name in _REPEATED)}
    FROM all_facts WHERE type = 'redemption.confirmed' AND currency = $currency AND event_id IN
        (SELECT original_event_id FROM all_facts WHERE type = 'redemption.reversed' AND currency = $currency)"""
# The first reversal that does not go on where the one before it, or its original, ended.
REVERSED_TWICE = """SELECT seq, event_id, 'it does not go on where the reversal before it ended' FROM (
        SELECT seq, event_id, original_event_id, reversed_before_minor - coalesce(sum(reversed_minor) OVER (
            PARTITION BY original_event_id ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS start
        FROM all_facts WHERE type = 'redemption.reversed' AND currency = $currency) r
    LEFT JOIN originals o ON o.own_event_id = r.original_event_id
    QUALIFY start IS DISTINCT FROM CASE WHEN own_seq IS NULL
        THEN first_value(start) OVER (PARTITION BY original_event_id ORDER BY seq) ELSE 0 END
    ORDER BY seq LIMIT 1"""
UNREAD = """SELECT seq, event_id, 'it is not an event that can be read' FROM all_facts
    WHERE NOT fits OR business_day <> day ORDER BY seq LIMIT 1"""

# When the last fact that is priced here occurred: §12's T, together with the last day.
LATEST = """SELECT max(occurred_at_ms) FROM all_facts WHERE currency = $currency
    AND type IN ('redemption.confirmed', 'redemption.reversed', 'goal.reached')"""

GOALS_KNOWN = f"""CREATE OR REPLACE TEMP TABLE goals_known AS
    SELECT f.seq, f.part, f.event_id, f.contract, f.contract_version, f.goal, f.occurred_at_ms, f.anchor_at_ms,
        f.amount_minor AS spend, f.subject_token, v.line_head, k.offset_ms, c.kind, c.bps, c.cap_minor, c.term_json,
        CASE WHEN c.window_ms IS NULL OR f.occurred_at_ms <= f.anchor_at_ms + c.window_ms
            THEN {_share("f.amount_minor", "c.bps")} + ((f.amount_minor % {_BPS} * c.bps) % {_BPS} >= 5000)::BIGINT
            ELSE 0 END AS share,
        CASE WHEN v.known_currency IS NULL THEN '{NOT_IN_FORCE}'
             WHEN v.known_currency <> f.currency THEN 'its contract version has another currency'
             WHEN f.amount_minor < 0 THEN 'a goal has no negative amount'
             WHEN c.kind IS NULL THEN NULL
             WHEN f.anchor_at_ms IS NULL THEN 'it does not say when its customer was brought'
             WHEN c.cap_minor IS NOT NULL AND f.subject_token IS NULL THEN 'it names no customer, and each has a cap'
        END AS fault
    FROM facts f {_IN_FORCE} {_CLOCK}
    LEFT JOIN commissions c ON c.contract = f.contract AND c.version = f.contract_version AND c.goal = f.goal
    WHERE f.type = 'goal.reached' AND f.currency = $currency"""
# §7 under a cap: what is accrued goes from a to max(a, min(a + share, cap)). Where the cap is one number, n goals after
# each other are the same as one of the sum of their shares; keys whose cap changes are folded one by one (`VARYING`).
ASKED = """CREATE OR REPLACE TEMP TABLE asked AS
    SELECT seq, key, share, cap_minor, old,
        greatest(old, least(old + run, cap_minor))::BIGINT AS after,
        (greatest(old, least(old + run, cap_minor))
            - greatest(old, least(old + run - share, cap_minor)))::BIGINT AS worth
    FROM (SELECT g.*, coalesce(a.minor, 0) AS old, sum(share) OVER (PARTITION BY g.key ORDER BY seq
                ROWS UNBOUNDED PRECEDING) AS run
          FROM (SELECT seq, share, cap_minor, contract || ' ' || goal || ' ' || subject_token AS key
                FROM goals_known WHERE kind = 'CPS' AND cap_minor IS NOT NULL AND share > 0) g
          LEFT JOIN accrued a ON a.key = g.key)"""
VARYING = """SELECT seq, key, share, cap_minor, old FROM asked WHERE key IN
    (SELECT key FROM asked GROUP BY key HAVING min(cap_minor) <> max(cap_minor)) ORDER BY key, seq"""
FOLDED = """UPDATE asked SET worth = f.worth, after = f.after FROM folded f WHERE f.seq = asked.seq"""
GOALS = """CREATE OR REPLACE TEMP TABLE goals AS WITH
    months AS (SELECT *, goal || ' ' || strftime(epoch_ms(occurred_at_ms + offset_ms), '%Y-%m') AS month_key
        FROM goals_known WHERE kind = 'CPA'),
    ranked AS (SELECT m.*, coalesce(o.value, 0)
            + row_number() OVER (PARTITION BY m.month_key ORDER BY m.seq) - 1 AS rank
        FROM months m LEFT JOIN ranks o ON o.key = m.month_key)
    SELECT r.seq, r.part, r.event_id, r.line_head, r.term_json, s.minor AS amount, r.month_key
        FROM ranked r JOIN steps s ON s.contract = r.contract AND s.version = r.contract_version AND s.goal = r.goal
            AND r.rank >= s.start AND r.rank < s.until
    UNION ALL BY NAME
    SELECT g.seq, g.part, g.event_id, g.line_head, g.term_json,
            CASE WHEN g.cap_minor IS NULL THEN g.share ELSE coalesce(a.worth, 0) END AS amount
        FROM goals_known g LEFT JOIN asked a ON a.seq = g.seq WHERE g.kind = 'CPS'"""
ACCRUE = (
    "CREATE OR REPLACE TEMP TABLE moved AS SELECT key, max(after) AS minor FROM asked GROUP BY key",
    "UPDATE accrued SET minor = m.minor, touched = true FROM moved m WHERE m.key = accrued.key",
    """INSERT INTO accrued SELECT m.key, 0, m.minor, true FROM moved m
       WHERE NOT EXISTS (SELECT 1 FROM accrued a WHERE a.key = m.key)""",
)
SUMS = """SELECT coalesce(sum(minor) FILTER (minor > 0), 0)::HUGEINT,
        coalesce(-sum(minor) FILTER (minor < 0), 0)::HUGEINT
    FROM (SELECT paid AS minor FROM redemptions UNION ALL SELECT -funding FROM redemptions
          UNION ALL SELECT amount FROM goals)"""
# Sorted before the texts are made: what is sorted stays small.
LINES = """SELECT part, count, CASE count WHEN 2
        THEN '{"amount_minor":' || minor || line_head || event_id || '","kind":"discount_paid","term":' || term_json
            || '},{"amount_minor":' || second || line_head || event_id || '","kind":"discount_funding","term":'
            || term_json || '}'
        ELSE '{"amount_minor":' || minor || line_head || event_id || '","kind":"commission","term":' || term_json || '}'
        END AS text
    FROM (SELECT seq, part, event_id, line_head, term_json, paid AS minor, -funding AS second, 2 AS count
          FROM redemptions
          UNION ALL SELECT seq, part, event_id, line_head, term_json, amount, 0, 1 FROM goals ORDER BY seq)"""
COMMISSIONS = "SELECT event_id, amount::BIGINT AS amount_minor FROM goals WHERE amount <> 0 ORDER BY seq"
