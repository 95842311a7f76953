-- A redemption is worth what its contract says (ADR 0017): one order takes one offer, a customer is known, capped rooms
-- are taken at confirmation, a hold that pays for a charge waits for that charge.

ALTER TABLE redemption RENAME COLUMN reference TO order_reference;
UPDATE redemption SET order_reference = coalesce(order_reference, redemption_id);
ALTER TABLE redemption
    ALTER COLUMN order_reference TYPE text COLLATE "C",
    ALTER COLUMN order_reference SET NOT NULL,
    ADD COLUMN hold_key text NOT NULL DEFAULT '', -- the hold's idempotency key: with the id, the seed of the split
    ADD COLUMN mcc      text,                     -- of the site, as it was asked when the discount was granted
    ADD COLUMN bound_to text;                     -- the charge that this discount pays for, which alone moves it
ALTER TABLE redemption ALTER COLUMN hold_key DROP DEFAULT;
ALTER TABLE redemption ADD CHECK (state <> 'EXPIRED' OR bound_to IS NULL);

-- One order takes one offer; what was released or has expired leaves the order free.
CREATE UNIQUE INDEX redemption_one_an_order ON redemption (order_reference, partner_id)
    WHERE state IN ('HELD', 'CONFIRMED', 'PART_REVERSED', 'REVERSED');
DROP INDEX redemption_expiring;
CREATE INDEX redemption_expiring ON redemption (expires_ms) WHERE state = 'HELD' AND bound_to IS NULL;

DROP FUNCTION hold_redemptions;
DROP FUNCTION known_requests;
DROP FUNCTION step_redemptions;

-- Decides a batch of holds, row by row in order. Everything a row needs is taken, or nothing. Returns for each row the
-- need that broke it (-1: nobody knows the customer, -2: the order has its offer), or the redemption its key stands for.
-- Keys and orders differ within a batch. Neither a bitmap nor a kept copy of a whole partial index may take the place of
-- its look-ups: planned while the table was empty, they would be read for every row of every batch for ever.
-- Locks: counters in the order of their names (so `names` comes sorted), then orders, then keys, both sorted (ADR 0006).
CREATE FUNCTION hold_redemptions(
    now_ms bigint,
    names text[], caps bigint[],
    need_row int[], need_name text[], need_counter int[], need_take bigint[], need_cap bigint[],
    holds json                                -- the dataclass HeldRow of discounts/model.py, one a row
) RETURNS TABLE (place int, broken int, known_id text, known_hash bytea)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
    SET enable_bitmapscan = off SET enable_material = off AS $$
DECLARE
    taken_now    bigint[];
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
    first_needs  int[] := array_fill(NULL::int, ARRAY[json_array_length(holds)]);
    last_needs   int[] := first_needs;
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
    INSERT INTO counter AS c (name, cap) SELECT n.name, n.cap FROM unnest(names, caps) AS n (name, cap)
        ON CONFLICT DO NOTHING;
    SELECT array_agg(l.taken ORDER BY l.name) INTO taken_now
        FROM (SELECT c.name, c.taken FROM counter c WHERE c.name = ANY (names) ORDER BY c.name FOR UPDATE) l;
    SELECT array_agg(i.resource_id ORDER BY k.place), array_agg(i.request_hash ORDER BY k.place),
           array_agg(CASE WHEN k.unknown THEN -1 WHEN r.partner_id IS NOT NULL THEN -2 END ORDER BY k.place)
        INTO known_ids, known_hashes, broke
        FROM unnest(partners, operations, keys, orders, unknown) WITH ORDINALITY
             AS k (partner_id, operation, key, order_reference, unknown, place)
        LEFT JOIN idempotency i ON i.partner_id = k.partner_id AND i.operation = k.operation AND i.key = k.key
        LEFT JOIN redemption r ON r.order_reference = k.order_reference AND r.partner_id = k.partner_id
            AND r.state IN ('HELD', 'CONFIRMED', 'PART_REVERSED', 'REVERSED');

    FOR this_row IN 1 .. cardinality(broke) LOOP
        first_needs[this_row] := need;
        WHILE need <= last_need AND need_row[need] = this_row LOOP
            IF broke[this_row] IS NULL AND known_ids[this_row] IS NULL
               AND taken_now[need_counter[need]] + need_take[need] > need_cap[need] THEN
                broke[this_row] := need;
            END IF;
            need := need + 1;
        END LOOP;
        last_needs[this_row] := need - 1;
        CONTINUE WHEN broke[this_row] IS NOT NULL OR known_ids[this_row] IS NOT NULL;
        FOR this_need IN first_needs[this_row] .. need - 1 LOOP
            taken_now[need_counter[this_need]] := taken_now[need_counter[this_need]] + need_take[this_need];
        END LOOP;
    END LOOP;

    UPDATE counter c SET taken = n.taken, cap = n.cap -- a new contract version may lower a cap below what is taken
        FROM (SELECT u.name, u.taken, u.cap + greatest(u.taken - u.cap, 0) FROM unnest(names, taken_now, caps)
              AS u (name, taken, cap)) AS n (name, taken, cap)
        WHERE c.name = n.name AND (c.taken <> n.taken OR c.cap IS DISTINCT FROM n.cap);
    WITH granted AS MATERIALIZED (
        SELECT h.* FROM ROWS FROM (json_to_recordset(holds) AS (redemption_id text, partner_id text, operation text,
                key text, request_hash text, contract_id text, contract_version int, discount_id text, currency text,
                order_minor bigint, held_minor bigint, subject_token text, site_id text, mcc text,
                order_reference text, occurred_at_ms bigint, expires_ms bigint)) WITH ORDINALITY
             AS h (redemption_id, partner_id, operation, key, request_hash, contract_id, contract_version, discount_id,
                currency, order_minor, held_minor, subject_token, site_id, mcc, order_reference, occurred_at_ms,
                expires_ms, place)
        WHERE broke[h.place] IS NULL AND known_ids[h.place] IS NULL),
    written AS (
        INSERT INTO redemption (redemption_id, partner_id, contract_id, contract_version, discount_id, state, currency,
                order_minor, held_minor, subject_token, site_id, mcc, order_reference, hold_key, occurred_at_ms,
                held_at_ms, expires_ms, changed_at_ms, counter_names, counter_takes)
            SELECT g.redemption_id, g.partner_id, g.contract_id, g.contract_version, g.discount_id, 'HELD', g.currency,
                   g.order_minor, g.held_minor, g.subject_token, g.site_id, g.mcc, g.order_reference, g.key,
                   g.occurred_at_ms, now_ms, g.expires_ms, now_ms,
                   need_name[first_needs[g.place]:last_needs[g.place]],
                   need_take[first_needs[g.place]:last_needs[g.place]]
            FROM granted g ORDER BY g.order_reference, g.partner_id)
    INSERT INTO idempotency (partner_id, operation, key, request_hash, resource_id, created_at_ms)
        SELECT g.partner_id, g.operation, g.key, decode(g.request_hash, 'base64'), g.redemption_id, now_ms
        FROM granted g ORDER BY g.partner_id, g.operation, g.key;
    RETURN QUERY SELECT r.place::int, r.broke_at, r.known, r.hash
        FROM unnest(broke, known_ids, known_hashes) WITH ORDINALITY AS r (broke_at, known, hash, place)
        ORDER BY r.place;
END $$;

-- What a batch of steps asks before its rules run, after the redemptions are locked: which keys stand for a request
-- already, and what the funders' counters have used, which stay locked. Without names no counter is touched.
-- Funders' counters are locked before all others, here and in `step_redemptions`: holds never wait for them.
CREATE FUNCTION ask_before_steps(requests json, fund_names text[]) -- KeyedRequest of discounts/model.py; sorted names
RETURNS TABLE (partner_id text, operation text, key text, request_hash bytea, fund_name text, funded bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY SELECT i.partner_id, i.operation, i.key, i.request_hash, NULL::text, NULL::bigint
        FROM json_to_recordset(requests) AS k (partner_id text, operation text, key text)
        JOIN idempotency i ON i.partner_id = k.partner_id AND i.operation = k.operation AND i.key = k.key;
    IF cardinality(fund_names) > 0 THEN
        INSERT INTO counter AS c (name) SELECT n.name FROM unnest(fund_names) AS n (name) ON CONFLICT DO NOTHING;
        RETURN QUERY SELECT NULL::text, NULL::text, NULL::text, NULL::bytea, c.name, c.used
            FROM counter c WHERE c.name = ANY (fund_names) ORDER BY c.name FOR UPDATE;
    END IF;
END $$;

-- Writes a batch of steps that the rule has taken on redemptions locked by the caller (confirm, release, expire,
-- reverse): the rows as they are now, the keys, and what the counters get back or count as used. Keys of steps and of
-- holds are never the same, so the one may come before the counters and the other after.
CREATE FUNCTION step_redemptions(
    now_ms bigint,
    names text[], taken_more bigint[], used_more bigint[], reversed_more bigint[], -- sorted, funders' first
    redemptions json,                         -- the dataclass SteppedRow of discounts/store.py
    requests json                             -- KeyedRequest and the redemption it stands for
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
    -- Last, as holds wait for them.
    INSERT INTO counter AS c (name) SELECT n.name FROM unnest(names) AS n (name) ON CONFLICT DO NOTHING;
    PERFORM FROM counter c WHERE c.name = ANY (names) ORDER BY NOT starts_with(c.name, 'fund|'), c.name FOR UPDATE;
    UPDATE counter c SET taken = c.taken + n.taken, used = c.used + n.used, reversed = c.reversed + n.reversed
        FROM unnest(names, taken_more, used_more, reversed_more) AS n (name, taken, used, reversed)
        WHERE c.name = n.name;
END $$;
