-- The book (double entry, append only) and the discounts (counters that are never overspent, redemptions).

CREATE TABLE ledger_entry (
    seq            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cause          text   NOT NULL UNIQUE,    -- the fact behind it: redemption.confirmed:rdm_…, booked once
    partner_id     text   NOT NULL,
    business_day   date   NOT NULL,
    recorded_at_ms bigint NOT NULL
);
CREATE INDEX ledger_entry_partner_day ON ledger_entry (partner_id, business_day);

CREATE TABLE ledger_posting (
    entry_seq    bigint   NOT NULL,
    line         smallint NOT NULL CHECK (line > 0),
    account      text     NOT NULL CHECK (account ~ '^[a-z_]+:[a-z0-9][a-z0-9_.-]*:[A-Z]{3}$'),
    currency     text     NOT NULL GENERATED ALWAYS AS (right(account, 3)) STORED,
    amount_minor bigint   NOT NULL CHECK (amount_minor <> 0), -- debit positive, credit negative
    PRIMARY KEY (entry_seq, line)
);

-- Judged once a statement over all its new lines: every entry sums to zero per currency and is there (ADR 0007).
-- Nested loops only: the plan must not turn to reading the whole book when its statistics are old.
CREATE FUNCTION ledger_balances() RETURNS trigger LANGUAGE plpgsql
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT entry_seq INTO wrong FROM fresh GROUP BY entry_seq, currency HAVING sum(amount_minor) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'ledger entry % does not sum to zero', wrong USING ERRCODE = 'check_violation';
    END IF;
    SELECT entry_seq INTO wrong FROM fresh
        WHERE NOT EXISTS (SELECT FROM ledger_entry WHERE seq = entry_seq) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'there is no ledger entry %', wrong USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_posting_balances AFTER INSERT ON ledger_posting REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_balances();

CREATE TRIGGER ledger_entry_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER ledger_posting_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_posting
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

CREATE TABLE counter (                        -- what a limit counts: fen or times; names begin with the kind of limit
    name     text   COLLATE "C" PRIMARY KEY,
    cap      bigint,                          -- null: counted, not limited
    taken    bigint NOT NULL DEFAULT 0,       -- held and confirmed together
    used     bigint NOT NULL DEFAULT 0,       -- confirmed (money only)
    reversed bigint NOT NULL DEFAULT 0,       -- of the confirmed; it does not open the cap again
    CHECK (taken <= cap),
    CHECK (reversed <= used AND used <= taken AND 0 <= used)
) WITH (fillfactor = 50);                     -- the few hot rows are rewritten by every batch, within their page

CREATE TABLE redemption (
    redemption_id    text   COLLATE "C" PRIMARY KEY,
    partner_id       text   NOT NULL,
    contract_id      text   NOT NULL,
    contract_version int    NOT NULL,
    discount_id      text   NOT NULL,
    state            text   NOT NULL
        CHECK (state IN ('HELD', 'CONFIRMED', 'PART_REVERSED', 'REVERSED', 'RELEASED', 'EXPIRED')),
    currency         text   NOT NULL,
    order_minor      bigint NOT NULL CHECK (order_minor > 0),
    held_minor       bigint NOT NULL CHECK (held_minor > 0),
    discount_minor   bigint NOT NULL DEFAULT 0 CHECK (discount_minor BETWEEN 0 AND held_minor),
    reversed_minor   bigint NOT NULL DEFAULT 0 CHECK (reversed_minor BETWEEN 0 AND discount_minor),
    subject_token    text,
    site_id          text,
    reference        text,
    occurred_at_ms   bigint NOT NULL,
    held_at_ms       bigint NOT NULL,
    expires_ms       bigint NOT NULL,
    changed_at_ms    bigint NOT NULL,
    counter_names    text[]   NOT NULL,       -- what this hold took, and from where: given back exactly
    counter_takes    bigint[] NOT NULL,
    funding          jsonb,                   -- once confirmed: the event, who paid which part, what the caps had left
    CHECK ((state IN ('CONFIRMED', 'PART_REVERSED', 'REVERSED')) = (discount_minor > 0)),
    CHECK ((state IN ('CONFIRMED', 'PART_REVERSED', 'REVERSED')) = (funding IS NOT NULL)),
    CHECK ((state = 'REVERSED') = (discount_minor > 0 AND reversed_minor = discount_minor))
) WITH (fillfactor = 80);
CREATE INDEX redemption_expiring ON redemption (expires_ms) WHERE state = 'HELD';

-- The functions below join a batch to tables that grow. Their plans must be index look-ups from the first day on, whatever
-- the statistics say (a hash join would read a whole table for each batch), so they forbid everything else.

-- Decides a batch of holds, row by row in order. Everything a row needs is taken, or nothing; a soft need takes what is
-- left. Returns for each row what it took; or the need that broke it, or the redemption its key stands for already.
-- Locks: counters in the order of their names (so `names` comes sorted), then the keys, then the rows. See ADR 0006.
CREATE FUNCTION hold_redemptions(
    now_ms bigint,
    names text[], caps bigint[],
    need_row int[], need_name text[], need_counter int[], need_take bigint[], need_cap bigint[], need_soft boolean[],
    holds json                                -- the dataclass HeldRow of discounts/model.py, one a row
) RETURNS TABLE (place int, broken int, known_id text, known_hash bytea, takes bigint[])
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    taken_now    bigint[];
    known_ids    text[];
    known_hashes bytea[];
    took         bigint[] := need_take;
    broke        int[] := array_fill(NULL::int, ARRAY[json_array_length(holds)]);
    need         int := 1;
    last_need    int := cardinality(need_row);
    first_need   int;
    first_needs  int[] := broke;
    last_needs   int[] := broke;
    counter_at   int;
BEGIN
    INSERT INTO counter AS c (name, cap) SELECT n.name, n.cap FROM unnest(names, caps) AS n (name, cap)
        ON CONFLICT DO NOTHING;
    SELECT array_agg(l.taken ORDER BY l.name) INTO taken_now
        FROM (SELECT c.name, c.taken FROM counter c WHERE c.name = ANY (names) ORDER BY c.name FOR UPDATE) l;
    SELECT array_agg(i.resource_id ORDER BY k.place), array_agg(i.request_hash ORDER BY k.place)
        INTO known_ids, known_hashes
        FROM ROWS FROM (json_to_recordset(holds) AS (partner_id text, operation text, key text)) WITH ORDINALITY
             AS k (partner_id, operation, key, place)
        LEFT JOIN idempotency i ON i.partner_id = k.partner_id AND i.operation = k.operation AND i.key = k.key;

    FOR this_row IN 1 .. cardinality(broke) LOOP
        first_need := need;
        WHILE need <= last_need AND need_row[need] = this_row LOOP
            IF broke[this_row] IS NULL AND known_ids[this_row] IS NULL AND NOT need_soft[need]
               AND taken_now[need_counter[need]] + need_take[need] > need_cap[need] THEN
                broke[this_row] := need;
            END IF;
            need := need + 1;
        END LOOP;
        first_needs[this_row] := first_need;
        last_needs[this_row] := need - 1;
        CONTINUE WHEN broke[this_row] IS NOT NULL OR known_ids[this_row] IS NOT NULL;
        FOR this_need IN first_need .. need - 1 LOOP
            counter_at := need_counter[this_need];
            IF need_soft[this_need] THEN
                took[this_need] := least(took[this_need], greatest(need_cap[this_need] - taken_now[counter_at], 0));
            END IF;
            taken_now[counter_at] := taken_now[counter_at] + took[this_need];
        END LOOP;
    END LOOP;

    UPDATE counter c SET taken = n.taken, cap = n.cap -- a new contract version may lower a cap below what is taken
        FROM (SELECT u.name, u.taken, u.cap + greatest(u.taken - u.cap, 0) FROM unnest(names, taken_now, caps)
              AS u (name, taken, cap)) AS n (name, taken, cap)
        WHERE c.name = n.name AND (c.taken <> n.taken OR c.cap IS DISTINCT FROM n.cap);
    WITH granted AS MATERIALIZED (
        SELECT h.* FROM ROWS FROM (json_to_recordset(holds) AS (redemption_id text, partner_id text, operation text,
                key text, request_hash text, contract_id text, contract_version int, discount_id text, currency text,
                order_minor bigint, held_minor bigint, subject_token text, site_id text, reference text,
                occurred_at_ms bigint, expires_ms bigint)) WITH ORDINALITY
             AS h (redemption_id, partner_id, operation, key, request_hash, contract_id, contract_version, discount_id,
                currency, order_minor, held_minor, subject_token, site_id, reference, occurred_at_ms, expires_ms, place)
        WHERE broke[h.place] IS NULL AND known_ids[h.place] IS NULL),
    written AS (
        INSERT INTO redemption (redemption_id, partner_id, contract_id, contract_version, discount_id, state, currency,
                order_minor, held_minor, subject_token, site_id, reference, occurred_at_ms, held_at_ms, expires_ms,
                changed_at_ms, counter_names, counter_takes)
            SELECT g.redemption_id, g.partner_id, g.contract_id, g.contract_version, g.discount_id, 'HELD', g.currency,
                   g.order_minor, g.held_minor, g.subject_token, g.site_id, g.reference, g.occurred_at_ms, now_ms,
                   g.expires_ms, now_ms, need_name[first_needs[g.place]:last_needs[g.place]],
                   took[first_needs[g.place]:last_needs[g.place]]
            FROM granted g)
    INSERT INTO idempotency (partner_id, operation, key, request_hash, resource_id, created_at_ms)
        SELECT g.partner_id, g.operation, g.key, decode(g.request_hash, 'base64'), g.redemption_id, now_ms
        FROM granted g;
    RETURN QUERY SELECT r.place::int, r.broke_at, r.known, r.hash, took[first_needs[r.place]:last_needs[r.place]]
        FROM unnest(broke, known_ids, known_hashes) WITH ORDINALITY AS r (broke_at, known, hash, place)
        ORDER BY r.place;
END $$;

-- Locks the redemptions of a batch, in the order of their ids.
CREATE FUNCTION lock_redemptions(ids text[]) RETURNS SETOF redemption
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY SELECT r.* FROM redemption r WHERE r.redemption_id = ANY (ids) ORDER BY r.redemption_id FOR UPDATE;
END $$;

-- The keys of a batch that stand for a request already (KeyedRequest of discounts/model.py). Called after the locks, so
-- that it sees what another worker has just committed under them.
CREATE FUNCTION known_requests(requests json)
RETURNS TABLE (partner_id text, operation text, key text, request_hash bytea, resource_id text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY SELECT i.partner_id, i.operation, i.key, i.request_hash, i.resource_id
        FROM json_to_recordset(requests) AS k (partner_id text, operation text, key text)
        JOIN idempotency i ON i.partner_id = k.partner_id AND i.operation = k.operation AND i.key = k.key;
END $$;

-- Writes a batch of steps that the rule has taken on redemptions locked by the caller (confirm, release, expire,
-- reverse): the rows as they are now, what the counters get back or count as used, and the keys.
CREATE FUNCTION step_redemptions(
    now_ms bigint,
    names text[], taken_more bigint[], used_more bigint[], reversed_more bigint[],
    redemptions json,                         -- the dataclass SteppedRow of discounts/store.py
    requests json                             -- KeyedRequest and the redemption it stands for
) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO counter AS c (name) SELECT n.name FROM unnest(names) AS n (name) ON CONFLICT DO NOTHING; -- uncapped funders
    PERFORM FROM counter c WHERE c.name = ANY (names) ORDER BY c.name FOR UPDATE;
    UPDATE counter c SET taken = c.taken + n.taken, used = c.used + n.used, reversed = c.reversed + n.reversed
        FROM unnest(names, taken_more, used_more, reversed_more) AS n (name, taken, used, reversed)
        WHERE c.name = n.name;
    UPDATE redemption r SET state = n.state, order_minor = n.order_minor, discount_minor = n.discount_minor,
            reversed_minor = n.reversed_minor, funding = n.funding, changed_at_ms = now_ms
        FROM json_to_recordset(redemptions) AS n (redemption_id text, state text, order_minor bigint,
             discount_minor bigint, reversed_minor bigint, funding jsonb)
        WHERE r.redemption_id = n.redemption_id;
    INSERT INTO idempotency (partner_id, operation, key, request_hash, resource_id, created_at_ms)
        SELECT n.partner_id, n.operation, n.key, decode(n.request_hash, 'base64'), n.resource_id, now_ms
        FROM json_to_recordset(requests) AS n (partner_id text, operation text, key text, request_hash text,
             resource_id text);
END $$;
