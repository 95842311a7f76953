-- One meaning of an idempotency key (decision 28). Keys behind which money stands are columns of the row that their request
-- made, for good. All others are rows of `idempotency`, which expire. And what else grows knows how long it is kept.

-- --- redemptions -----------------------------------------------------------------------------------------------------
-- A hold's key stands in the redemption that it made. Each later step (confirm, release, reverse) is a row of its own: a key
-- in the redemption would need an index that hears of the step, which must stay a heap-only update (decision 21).
-- A request is told by the first 16 bytes of its SHA-256: only its own sender would suffer from two that are alike.
ALTER TABLE redemption
    ADD COLUMN hold_operation text COLLATE "C",  -- '': HoldRedemption
    ADD COLUMN hold_request   bytea,
    ALTER COLUMN hold_key TYPE text COLLATE "C";

CREATE TABLE redemption_step (
    key           text  COLLATE "C" NOT NULL,
    partner_id    text  NOT NULL,
    operation     text  COLLATE "C" NOT NULL,
    redemption_id text  COLLATE "C" NOT NULL,
    request_hash  bytea NOT NULL,
    PRIMARY KEY (key, partner_id, operation)
);

UPDATE redemption r SET hold_operation = CASE i.operation WHEN 'HoldRedemption' THEN '' ELSE i.operation END,
        hold_request = substring(i.request_hash FOR 16)
    FROM idempotency i
    WHERE i.partner_id = r.partner_id AND i.key = r.hold_key AND i.resource_id = r.redemption_id
      AND (i.operation = 'HoldRedemption' OR i.operation LIKE '%.hold');
UPDATE redemption SET hold_operation = 'unknown ' || redemption_id, hold_request = '' WHERE hold_operation IS NULL;
INSERT INTO redemption_step
    SELECT i.key, i.partner_id, i.operation, i.resource_id, substring(i.request_hash FOR 16) FROM idempotency i
    WHERE i.resource_id IN (SELECT redemption_id FROM redemption)
      AND NOT (i.operation = 'HoldRedemption' OR i.operation LIKE '%.hold');
ALTER TABLE redemption ALTER COLUMN hold_operation SET NOT NULL, ALTER COLUMN hold_request SET NOT NULL;
CREATE UNIQUE INDEX redemption_one_a_hold_key ON redemption (hold_key, partner_id, hold_operation);
CREATE TRIGGER redemption_step_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON redemption_step
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- --- parking ---------------------------------------------------------------------------------------------------------
ALTER TABLE parking_session
    ADD COLUMN idempotency_key text COLLATE "C",
    ADD COLUMN request_hash    bytea;
ALTER TABLE parking_charge
    ADD COLUMN idempotency_key text COLLATE "C",
    ADD COLUMN request_hash    bytea;
ALTER TABLE parking_refund
    ADD COLUMN idempotency_key text COLLATE "C",
    ADD COLUMN request_hash    bytea;
UPDATE parking_session s SET idempotency_key = i.key, request_hash = substring(i.request_hash FOR 16) FROM idempotency i
    WHERE i.operation = 'EnterParking' AND i.partner_id = s.partner_id AND i.resource_id = s.session_id;
UPDATE parking_charge c SET idempotency_key = i.key, request_hash = substring(i.request_hash FOR 16) FROM idempotency i
    WHERE i.operation = 'ChargeParking' AND i.partner_id = c.partner_id AND i.resource_id = c.charge_id;
UPDATE parking_refund r SET idempotency_key = i.key, request_hash = substring(i.request_hash FOR 16) FROM idempotency i
    WHERE i.operation = 'RefundParkingCharge' AND i.partner_id = r.partner_id AND i.resource_id = r.refund_id;
UPDATE parking_session SET idempotency_key = session_id, request_hash = '' WHERE idempotency_key IS NULL;
UPDATE parking_charge SET idempotency_key = charge_id, request_hash = '' WHERE idempotency_key IS NULL;
UPDATE parking_refund SET idempotency_key = refund_id, request_hash = '' WHERE idempotency_key IS NULL;
ALTER TABLE parking_session ALTER COLUMN idempotency_key SET NOT NULL, ALTER COLUMN request_hash SET NOT NULL;
ALTER TABLE parking_charge ALTER COLUMN idempotency_key SET NOT NULL, ALTER COLUMN request_hash SET NOT NULL;
ALTER TABLE parking_refund ALTER COLUMN idempotency_key SET NOT NULL, ALTER COLUMN request_hash SET NOT NULL;
CREATE UNIQUE INDEX parking_session_one_a_key ON parking_session (partner_id, idempotency_key);
CREATE UNIQUE INDEX parking_charge_one_a_key ON parking_charge (partner_id, idempotency_key);
CREATE UNIQUE INDEX parking_refund_one_a_key ON parking_refund (partner_id, idempotency_key);

-- --- keys that expire, and by which clock ------------------------------------------------------------------------------
-- A clock for things that are kept for a time: it follows the machine's, never goes back, and runs at most at double speed
-- (`gateway/database/expiry.py`). A machine's clock that jumps and comes back frees nothing early.
CREATE TABLE retention_clock (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    at_ms    bigint NOT NULL,
    seen_ms  bigint NOT NULL                    -- what the machine's clock said then
);
INSERT INTO retention_clock (at_ms, seen_ms)
    SELECT n.now_ms, n.now_ms FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) n;

DELETE FROM idempotency WHERE operation NOT IN
    ('domesticVrpConsentsPost', 'domesticVrpPost', 'CreateVehicleAgreement', 'CreateReferralLink');
ALTER TABLE idempotency DROP COLUMN created_at_ms, ADD COLUMN counted_from_ms bigint; -- by `retention_clock`
UPDATE idempotency SET request_hash = substring(request_hash FOR 16),
    counted_from_ms = (SELECT at_ms FROM retention_clock);
ALTER TABLE idempotency ALTER COLUMN counted_from_ms SET NOT NULL;
CREATE INDEX idempotency_age ON idempotency (counted_from_ms);

-- --- what else expires -------------------------------------------------------------------------------------------------
CREATE INDEX counter_dated ON counter (right(name, 10)) WHERE starts_with(name, 'day|') OR starts_with(name, 'plate|');
CREATE INDEX payment_usage_start ON payment_usage (starts_on);

-- --- functions -----------------------------------------------------------------------------------------------------------
DROP FUNCTION hold_redemptions;
DROP FUNCTION known_requests;
DROP FUNCTION begin_steps;
DROP FUNCTION step_redemptions;

-- Decides a batch of holds, row by row in order. Everything a row needs is taken, or nothing. Returns for each row the
-- need that broke it (-1: nobody knows the customer, -2: the order has its offer), or the redemption its key stands for.
-- Keys and orders differ within a batch. Neither a bitmap nor a kept copy of a whole partial index may take the place of
-- its look-ups: planned while the table was empty, they would be read for every row of every batch for ever.
-- Locks: counters in the order of their names (so `names` comes sorted), then rows, in the order of their orders (ADR 0006).
-- Rows of two batches that share keys but no counter may wait in a ring: the caller tries again, as after any race.
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
    SELECT array_agg(i.redemption_id ORDER BY k.place), array_agg(i.hold_request ORDER BY k.place),
           array_agg(CASE WHEN k.unknown THEN -1 WHEN r.partner_id IS NOT NULL THEN -2 END ORDER BY k.place)
        INTO known_ids, known_hashes, broke
        FROM unnest(partners, operations, keys, orders, unknown) WITH ORDINALITY
             AS k (partner_id, operation, key, order_reference, unknown, place)
        LEFT JOIN redemption i ON i.hold_key = k.key AND i.partner_id = k.partner_id AND i.hold_operation = k.operation
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
                order_minor, held_minor, subject_token, site_id, mcc, order_reference, hold_operation, hold_key,
                hold_request, occurred_at_ms, held_at_ms, expires_ms, changed_at_ms, counter_names, counter_takes)
            SELECT g.redemption_id, g.partner_id, g.contract_id, g.contract_version, g.discount_id, 'HELD', g.currency,
                   g.order_minor, g.held_minor, g.subject_token, g.site_id, g.mcc, g.order_reference, g.operation,
                   g.key, decode(g.request_hash, 'base64'), g.occurred_at_ms, now_ms, g.expires_ms, now_ms,
                   g.counter_names, g.counter_takes
            FROM granted g ORDER BY g.order_reference, g.partner_id)
    INSERT INTO hold_due (expires_ms, redemption_id) SELECT g.expires_ms, g.redemption_id FROM granted g;
    RETURN QUERY SELECT r.place::int, r.broke_at, r.known, r.hash
        FROM unnest(broke, known_ids, known_hashes) WITH ORDINALITY AS r (broke_at, known, hash, place)
        ORDER BY r.place;
END $$;

-- What a batch of steps begins with, in one answer of three kinds of rows: the redemptions, locked in the order of their
-- ids; the keys that stand for a step already, asked under those locks; the business day, held open (`hold_open_day`).
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
        SELECT s.partner_id, s.operation, s.key, s.request_hash
        FROM json_to_recordset(requests) AS k (partner_id text, operation text, key text)
        JOIN redemption_step s ON s.key = k.key AND s.partner_id = k.partner_id AND s.operation = k.operation
    LOOP
        RETURN NEXT;
    END LOOP;
    key := NULL;
    business_day := hold_open_day(today, day_locks);
    RETURN NEXT;
END $$;

-- Writes a batch of steps that the rule has taken on redemptions locked by the caller (confirm, release, expire,
-- reverse): the rows as they are now, the steps by their keys, the events and what is booked, and what the counters get back
-- or count as used.
-- Funders' counters come before all others, here and in `lock_funders`: holds never wait for them.
CREATE FUNCTION step_redemptions(
    now_ms bigint,
    names text[], taken_more bigint[], used_more bigint[], reversed_more bigint[], -- sorted, funders' first
    redemptions json,                         -- the dataclass SteppedRow of discounts/store.py
    steps json,                               -- the dataclass StepRow of discounts/store.py
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
    INSERT INTO redemption_step (key, partner_id, operation, redemption_id, request_hash)
        SELECT n.key, n.partner_id, n.operation, n.redemption_id, decode(n.request_hash, 'base64')
        FROM json_to_recordset(steps) AS n (key text, partner_id text, operation text, redemption_id text,
             request_hash text) ORDER BY n.key, n.partner_id, n.operation;
    IF cardinality(leaves) > 0 THEN
        PERFORM record_events(leaves);
        PERFORM post_entries(entries, business_day, now_ms);
    END IF;
    -- Last, as holds wait for them: nothing is left to do but to commit.
    -- What a step takes more of is a funder's, and is made where nobody has come before. All others were made by the hold;
    -- those of days long over are gone, and nothing counts there any more.
    INSERT INTO counter AS c (name) SELECT n.name FROM unnest(names, taken_more) AS n (name, taken) WHERE n.taken > 0
        ON CONFLICT DO NOTHING;
    PERFORM FROM counter c WHERE c.name = ANY (names) ORDER BY NOT starts_with(c.name, 'fund|'), c.name FOR UPDATE;
    UPDATE counter c SET taken = c.taken + n.taken, used = c.used + n.used, reversed = c.reversed + n.reversed
        FROM unnest(names, taken_more, used_more, reversed_more) AS n (name, taken, used, reversed)
        WHERE c.name = n.name;
END $$;
