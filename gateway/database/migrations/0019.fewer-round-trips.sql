-- Hold and confirm with fewer round trips, rows and bytes (decision 21): the whole of a batch's steps is written by one
-- statement, counters nobody has come before are made as they will stand, and a redemption names its counters in short.

-- Written once for most names (a customer's, a plate's); the few hot rows still find room for a dozen versions.
ALTER TABLE counter SET (fillfactor = 75);

-- `budget`, `day|2026-11-23`, `customer`, `plate|<digest>|2026-11-23`: contract, discount, currency and customer are the
-- row's own. `stored_name` of discounts/limits.py.
UPDATE redemption r SET counter_names = ARRAY(
    SELECT CASE WHEN n.part[1] = 'customer' THEN 'customer'
                WHEN n.part[1] IN ('budget', 'day') THEN array_to_string(n.part[1] || n.part[5:], '|')
                ELSE array_to_string(n.part[1] || n.part[4:], '|') END
    FROM (SELECT string_to_array(c.name, '|') AS part, c.place FROM unnest(r.counter_names) WITH ORDINALITY AS c (name, place)) n
    ORDER BY n.place);

-- A step must change no column that an index reads, so that its new version stays on the row's page and no index hears of
-- it (a heap-only update). So the index of orders asks for a column that a confirmation leaves as it is, and the times of
-- holds stand in rows of their own, which go when their time has come, whatever became of the hold. Each page is filled
-- less than half with holds, as one batch may confirm them all, and the old versions go with the next.
ALTER TABLE redemption SET (fillfactor = 45);
ALTER TABLE redemption ADD COLUMN takes_order boolean NOT NULL
    GENERATED ALWAYS AS (state IN ('HELD', 'CONFIRMED', 'PART_REVERSED', 'REVERSED')) STORED;
DROP INDEX redemption_one_an_order;
CREATE UNIQUE INDEX redemption_one_an_order ON redemption (order_reference, partner_id) WHERE takes_order;
DROP INDEX redemption_expiring;
CREATE TABLE hold_due (
    expires_ms    bigint NOT NULL,
    redemption_id text   COLLATE "C" NOT NULL,
    PRIMARY KEY (expires_ms, redemption_id)
);
INSERT INTO hold_due (expires_ms, redemption_id)
    SELECT expires_ms, redemption_id FROM redemption WHERE state = 'HELD' AND bound_to IS NULL;

-- The holds whose time is over, oldest first; those bound to a charge wait for it. Looks at `looks` times at most, and
-- drops those whose redemption is no open hold any more, as none ever becomes one again.
CREATE FUNCTION expired_holds(now_ms bigint, looks bigint, most bigint) RETURNS TABLE (redemption_id text, partner_id text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY
        WITH due AS MATERIALIZED (
            SELECT d.expires_ms, d.redemption_id FROM hold_due d
            WHERE d.expires_ms <= now_ms ORDER BY d.expires_ms LIMIT looks),
        asked AS MATERIALIZED (
            SELECT due.expires_ms, due.redemption_id, r.partner_id, r.state = 'HELD' AND r.bound_to IS NULL AS open
            FROM due JOIN redemption r ON r.redemption_id = due.redemption_id),
        over AS (
            DELETE FROM hold_due d USING asked a
            WHERE NOT a.open AND d.expires_ms = a.expires_ms AND d.redemption_id = a.redemption_id)
        SELECT a.redemption_id, a.partner_id FROM asked a WHERE a.open ORDER BY a.expires_ms LIMIT most;
END $$;

-- Writes events, in order. Every column is read from the leaf, so that what is looked up is what is sealed.
CREATE FUNCTION record_events(leaves bytea[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO event (event_id, type, partner, campaign, contract, contract_version, occurred_at_ms, recorded_at_ms,
            business_day, currency, amount_minor, subject_token, idempotency_key, leaf)
        SELECT e.event_id, e.type, e.partner, e.campaign, e.contract, e.contract_version, e.occurred_at_ms,
               e.recorded_at_ms, e.business_day, e.currency, e.amount_minor, e.subject_token, e.idempotency_key, l.leaf
        FROM unnest(leaves) WITH ORDINALITY AS l (leaf, place)
        CROSS JOIN LATERAL json_to_record(convert_from(l.leaf, 'UTF8')::json) AS e (event_id text, type text,
            partner text, campaign text, contract text, contract_version int, occurred_at_ms bigint,
            recorded_at_ms bigint, business_day date, currency text, amount_minor bigint, subject_token text,
            idempotency_key text)
        ORDER BY l.place
$$;

-- Books entries, in order: `Entry` of ledger/book.py. Sequence numbers are given in the order of the SELECT, so the
-- n-th of them is the n-th entry's.
CREATE FUNCTION post_entries(entries json, business_day date, now_ms bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    seqs bigint[];
BEGIN
    WITH fresh AS (
        INSERT INTO ledger_entry (cause, partner_id, business_day, recorded_at_ms)
            SELECT e.cause, e.partner_id, post_entries.business_day, now_ms
            FROM ROWS FROM (json_to_recordset(entries) AS (cause text, partner_id text)) WITH ORDINALITY
                 AS e (cause, partner_id, place)
            ORDER BY e.place
            RETURNING seq)
    SELECT array_agg(f.seq ORDER BY f.seq) INTO seqs FROM fresh f;
    INSERT INTO ledger_posting (entry_seq, line, account, amount_minor)
        SELECT seqs[e.place], p.line, p.account, p.amount_minor
        FROM ROWS FROM (json_to_recordset(entries) AS (postings json)) WITH ORDINALITY AS e (postings, place)
        CROSS JOIN LATERAL ROWS FROM (json_to_recordset(e.postings) AS (account text, amount_minor bigint))
             WITH ORDINALITY AS p (account, amount_minor, line)
        ORDER BY e.place, p.line;
END $$;

DROP FUNCTION hold_redemptions;
DROP FUNCTION lock_redemptions;
DROP FUNCTION ask_before_steps;
DROP FUNCTION step_redemptions;

-- Decides a batch of holds, row by row in order. Everything a row needs is taken, or nothing. Returns for each row the
-- need that broke it (-1: nobody knows the customer, -2: the order has its offer), or the redemption its key stands for.
-- Keys and orders differ within a batch. Neither a bitmap nor a kept copy of a whole partial index may take the place of
-- its look-ups: planned while the table was empty, they would be read for every row of every batch for ever.
-- Locks: counters in the order of their names (so `names` comes sorted), then orders, then keys, both sorted (ADR 0006).
CREATE FUNCTION hold_redemptions(
    now_ms bigint,
    names text[], caps bigint[], wanted bigint[], -- wanted: what the whole batch would take of the counter
    need_row int[], need_counter int[], need_take bigint[], need_cap bigint[],
    holds json                                -- the dataclass HeldRow of discounts/model.py, one a row
) RETURNS TABLE (place int, broken int, known_id text, known_hash bytea)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
    SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    fresh        text[];                       -- counters made just now, and with what; all others are locked
    older        text[];
    taken_now    bigint[];
    stands       bigint[];                     -- null for those that were there
    partners     text[];
    operations   text[];
    keys         text[];
    orders       text[];
    unknown      boolean[];
    known_ids    text[];
    known_hashes bytea[];
    broke        int[];
    need         int := 1;
    last_need    int := cardinality(need_row);
    first_need   int;
BEGIN
    -- What need not wait for the counters is asked before they are locked: who is known stays known.
    SELECT array_agg(k.partner_id ORDER BY k.place), array_agg(k.operation ORDER BY k.place),
           array_agg(k.key ORDER BY k.place), array_agg(k.order_reference ORDER BY k.place),
           array_agg(k.vouched_token IS NOT NULL AND v.token IS NULL ORDER BY k.place)
        INTO partners, operations, keys, orders, unknown
        FROM ROWS FROM (json_to_recordset(holds) AS (partner_id text, operation text, key text, vouched_token text,
                order_reference text)) WITH ORDINALITY
             AS k (partner_id, operation, key, vouched_token, order_reference, place)
        LEFT JOIN known_customer v ON v.partner_id = k.partner_id AND v.token = k.vouched_token;
    -- A counter that nobody has come before is made as it will stand if all is granted: one version instead of two, and
    -- nobody else sees it before we commit. What it is made with is no room taken: `taken_now` begins at nothing.
    WITH made AS (
        INSERT INTO counter AS c (name, cap, taken)
            SELECT n.name, n.cap, CASE WHEN n.wanted > n.cap THEN 0 ELSE n.wanted END
            FROM unnest(names, caps, wanted) AS n (name, cap, wanted)
            ON CONFLICT DO NOTHING RETURNING c.name, c.taken)
    SELECT array_agg(m.name), array_agg(m.taken) INTO fresh, stands FROM made m;
    older := ARRAY (SELECT unnest(names) EXCEPT ALL SELECT unnest(fresh));
    WITH locked AS MATERIALIZED (
        SELECT c.name, c.taken FROM counter c WHERE c.name = ANY (older) ORDER BY c.name FOR UPDATE)
    SELECT array_agg(l.taken), array_agg(l.stands) INTO taken_now, stands
        FROM (SELECT o.name COLLATE "C" AS name, o.taken, NULL::bigint AS stands FROM locked o
              UNION ALL SELECT m.name COLLATE "C", 0, m.stands FROM unnest(fresh, stands) AS m (name, stands)
              ORDER BY name) l;
    SELECT array_agg(i.resource_id ORDER BY k.place), array_agg(i.request_hash ORDER BY k.place),
           array_agg(CASE WHEN k.unknown THEN -1 WHEN r.partner_id IS NOT NULL THEN -2 END ORDER BY k.place)
        INTO known_ids, known_hashes, broke
        FROM unnest(partners, operations, keys, orders, unknown) WITH ORDINALITY
             AS k (partner_id, operation, key, order_reference, unknown, place)
        LEFT JOIN idempotency i ON i.partner_id = k.partner_id AND i.operation = k.operation AND i.key = k.key
        LEFT JOIN redemption r ON r.order_reference = k.order_reference AND r.partner_id = k.partner_id
            AND r.takes_order;

    FOR this_row IN 1 .. cardinality(broke) LOOP
        first_need := need;
        WHILE need <= last_need AND need_row[need] = this_row LOOP
            IF broke[this_row] IS NULL AND known_ids[this_row] IS NULL
               AND taken_now[need_counter[need]] + need_take[need] > need_cap[need] THEN
                broke[this_row] := need;
            END IF;
            need := need + 1;
        END LOOP;
        CONTINUE WHEN broke[this_row] IS NOT NULL OR known_ids[this_row] IS NOT NULL;
        FOR this_need IN first_need .. need - 1 LOOP
            taken_now[need_counter[this_need]] := taken_now[need_counter[this_need]] + need_take[this_need];
        END LOOP;
    END LOOP;

    UPDATE counter c SET taken = n.taken, cap = n.cap -- a new contract version may lower a cap below what is taken
        FROM (SELECT u.name, u.taken, u.cap + greatest(u.taken - u.cap, 0) FROM unnest(names, taken_now, caps, stands)
              AS u (name, taken, cap, stands) WHERE u.taken IS DISTINCT FROM u.stands) AS n (name, taken, cap)
        WHERE c.name = n.name AND (c.taken <> n.taken OR c.cap IS DISTINCT FROM n.cap);
    WITH granted AS MATERIALIZED (
        SELECT h.* FROM ROWS FROM (json_to_recordset(holds) AS (redemption_id text, partner_id text, operation text,
                key text, request_hash text, contract_id text, contract_version int, discount_id text, currency text,
                order_minor bigint, held_minor bigint, subject_token text, site_id text, mcc text,
                order_reference text, occurred_at_ms bigint, expires_ms bigint, counter_names text[],
                counter_takes bigint[])) WITH ORDINALITY
             AS h (redemption_id, partner_id, operation, key, request_hash, contract_id, contract_version, discount_id,
                currency, order_minor, held_minor, subject_token, site_id, mcc, order_reference, occurred_at_ms,
                expires_ms, counter_names, counter_takes, place)
        WHERE broke[h.place] IS NULL AND known_ids[h.place] IS NULL),
    written AS (
        INSERT INTO redemption (redemption_id, partner_id, contract_id, contract_version, discount_id, state, currency,
                order_minor, held_minor, subject_token, site_id, mcc, order_reference, hold_key, occurred_at_ms,
                held_at_ms, expires_ms, changed_at_ms, counter_names, counter_takes)
            SELECT g.redemption_id, g.partner_id, g.contract_id, g.contract_version, g.discount_id, 'HELD', g.currency,
                   g.order_minor, g.held_minor, g.subject_token, g.site_id, g.mcc, g.order_reference, g.key,
                   g.occurred_at_ms, now_ms, g.expires_ms, now_ms, g.counter_names, g.counter_takes
            FROM granted g ORDER BY g.order_reference, g.partner_id),
    due AS (
        INSERT INTO hold_due (expires_ms, redemption_id) SELECT g.expires_ms, g.redemption_id FROM granted g)
    INSERT INTO idempotency (partner_id, operation, key, request_hash, resource_id, created_at_ms)
        SELECT g.partner_id, g.operation, g.key, decode(g.request_hash, 'base64'), g.redemption_id, now_ms
        FROM granted g ORDER BY g.partner_id, g.operation, g.key;
    RETURN QUERY SELECT r.place::int, r.broke_at, r.known, r.hash
        FROM unnest(broke, known_ids, known_hashes) WITH ORDINALITY AS r (broke_at, known, hash, place)
        ORDER BY r.place;
END $$;

-- Which keys stand for a request already (KeyedRequest of discounts/model.py).
CREATE FUNCTION known_requests(requests json)
RETURNS TABLE (partner_id text, operation text, key text, request_hash bytea)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY SELECT i.partner_id, i.operation, i.key, i.request_hash
        FROM json_to_recordset(requests) AS k (partner_id text, operation text, key text)
        JOIN idempotency i ON i.partner_id = k.partner_id AND i.operation = k.operation AND i.key = k.key;
END $$;

-- What a batch of steps begins with, in one answer of three kinds of rows: the redemptions, locked in the order of their
-- ids; the keys that stand for a request already, asked under those locks; the business day, held open (`hold_open_day`).
CREATE FUNCTION begin_steps(ids text[], requests json, today date, day_locks bigint)
RETURNS TABLE (
    redemption_id text, partner_id text, contract_id text, contract_version int, discount_id text, state text,
    currency text, order_minor bigint, held_minor bigint, discount_minor bigint, reversed_minor bigint,
    subject_token text, site_id text, mcc text, order_reference text, hold_key text, bound_to text,
    occurred_at_ms bigint, held_at_ms bigint, expires_ms bigint, changed_at_ms bigint, counter_names text[],
    counter_takes bigint[], funding jsonb,
    operation text, key text, request_hash bytea, business_day date)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY SELECT r.redemption_id, r.partner_id, r.contract_id, r.contract_version, r.discount_id, r.state,
            r.currency, r.order_minor, r.held_minor, r.discount_minor, r.reversed_minor, r.subject_token, r.site_id,
            r.mcc, r.order_reference, r.hold_key, r.bound_to, r.occurred_at_ms, r.held_at_ms, r.expires_ms,
            r.changed_at_ms, r.counter_names, r.counter_takes, r.funding, NULL::text, NULL::text, NULL::bytea, NULL::date
        FROM redemption r WHERE r.redemption_id = ANY (ids) ORDER BY r.redemption_id FOR UPDATE;
    FOR partner_id, operation, key, request_hash IN
        SELECT i.partner_id, i.operation, i.key, i.request_hash
        FROM json_to_recordset(requests) AS k (partner_id text, operation text, key text)
        JOIN idempotency i ON i.partner_id = k.partner_id AND i.operation = k.operation AND i.key = k.key
    LOOP
        RETURN NEXT;
    END LOOP;
    key := NULL;
    business_day := hold_open_day(today, day_locks);
    RETURN NEXT;
END $$;

-- What the funders' counters have used; they are ours until the transaction ends. Only where a cap is asked.
CREATE FUNCTION lock_funders(names text[]) RETURNS TABLE (name text, used bigint) -- sorted
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO counter AS c (name) SELECT n.name FROM unnest(names) AS n (name) ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT c.name, c.used FROM counter c WHERE c.name = ANY (names) ORDER BY c.name FOR UPDATE;
END $$;

-- Writes a batch of steps that the rule has taken on redemptions locked by the caller (confirm, release, expire,
-- reverse): the rows as they are now, the keys, the events and what is booked, and what the counters get back or count
-- as used. Keys of steps and of holds are never the same, so the one may come before the counters and the other after.
-- Funders' counters come before all others, here and in `lock_funders`: holds never wait for them.
CREATE FUNCTION step_redemptions(
    now_ms bigint,
    names text[], taken_more bigint[], used_more bigint[], reversed_more bigint[], -- sorted, funders' first
    redemptions json,                         -- the dataclass SteppedRow of discounts/store.py
    requests json,                            -- KeyedRequest and the redemption it stands for
    leaves bytea[], entries json, business_day date -- as `record_events` and `post_entries` take them
) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    UPDATE redemption r SET state = n.state, order_minor = n.order_minor, discount_minor = n.discount_minor,
            reversed_minor = n.reversed_minor, site_id = n.site_id, mcc = n.mcc, funding = n.funding,
            changed_at_ms = now_ms
        FROM json_to_recordset(redemptions) AS n (redemption_id text, state text, order_minor bigint,
             discount_minor bigint, reversed_minor bigint, site_id text, mcc text, funding jsonb)
        WHERE r.redemption_id = n.redemption_id;
    INSERT INTO idempotency (partner_id, operation, key, request_hash, resource_id, created_at_ms)
        SELECT n.partner_id, n.operation, n.key, decode(n.request_hash, 'base64'), n.resource_id, now_ms
        FROM json_to_recordset(requests) AS n (partner_id text, operation text, key text, request_hash text,
             resource_id text) ORDER BY n.partner_id, n.operation, n.key;
    IF cardinality(leaves) > 0 THEN
        PERFORM record_events(leaves);
        PERFORM post_entries(entries, business_day, now_ms);
    END IF;
    -- Last, as holds wait for them: nothing is left to do but to commit.
    INSERT INTO counter AS c (name) SELECT n.name FROM unnest(names) AS n (name) ON CONFLICT DO NOTHING;
    PERFORM FROM counter c WHERE c.name = ANY (names) ORDER BY NOT starts_with(c.name, 'fund|'), c.name FOR UPDATE;
    UPDATE counter c SET taken = c.taken + n.taken, used = c.used + n.used, reversed = c.reversed + n.reversed
        FROM unnest(names, taken_more, used_more, reversed_more) AS n (name, taken, used, reversed)
        WHERE c.name = n.name;
END $$;
