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
