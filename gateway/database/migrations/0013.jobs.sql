-- Background wishes as jobs, one truth for a sealed day, the sandbox's business date, statements that can be refused.

CREATE TABLE job (                             -- a wish that the back office carries out; one that fails stops no other
    job_id          text   PRIMARY KEY,
    kind            text   NOT NULL CHECK (kind IN
                        ('day_closing', 'statement_calculation', 'commission_booking', 'statement_file')),
    subject         text   NOT NULL,           -- what is wished once: the day, or the statement's id
    lane            text   NOT NULL,           -- jobs of one lane run one after another, lanes beside each other
    day             date,
    statement_id    text,
    partner_id      text,
    state           text   NOT NULL CHECK (state IN ('WAITING', 'RUNNING', 'DONE', 'FAILED', 'WITHDRAWN')),
    attempts        int    NOT NULL DEFAULT 0,
    failure         text,                      -- of the last attempt, in words
    next_try_at_ms  bigint NOT NULL,
    requested_by    text   NOT NULL,
    requested_at_ms bigint NOT NULL,
    finished_at_ms  bigint,
    CHECK ((finished_at_ms IS NULL) = (state IN ('WAITING', 'RUNNING')))
);
CREATE UNIQUE INDEX job_wished_once ON job (kind, subject) WHERE state IN ('WAITING', 'RUNNING', 'FAILED');
CREATE INDEX job_due ON job (kind, next_try_at_ms) WHERE state IN ('WAITING', 'RUNNING');
CREATE INDEX job_latest ON job (requested_at_ms DESC, job_id);
DROP TABLE closure;

-- --- business days ---------------------------------------------------------------------------------------------------
CREATE TABLE sandbox_business_date (           -- of a sandbox only: moved forward by its operation
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    day      date    NOT NULL
);
CREATE FUNCTION business_date_moves_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.day <= OLD.day THEN
        RAISE EXCEPTION 'the business date moves forward only' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER business_date_moves_forward BEFORE UPDATE ON sandbox_business_date
    FOR EACH ROW EXECUTE FUNCTION business_date_moves_forward();

-- Closing a day shuts all days up to it: the day open for facts is after the last one that was shut.
CREATE FUNCTION open_day(today date) RETURNS date LANGUAGE sql STABLE AS $$
    SELECT greatest(today, (SELECT b.day FROM sandbox_business_date b), (SELECT max(s.day) + 1 FROM business_day s))
$$;

-- The open day, held open until this transaction ends (one round trip for every writer).
-- READ COMMITTED: each statement of a volatile function sees what has committed, so a day shut while we waited is seen.
CREATE OR REPLACE FUNCTION hold_open_day(day date, lock_space bigint) RETURNS date LANGUAGE plpgsql AS $$
DECLARE
    candidate date;
    still     date := open_day(day);
BEGIN
    LOOP
        candidate := still;
        PERFORM pg_advisory_xact_lock_shared(lock_space + (candidate - date '0001-01-01') + 1);
        still := open_day(day);
        IF still = candidate THEN
            RETURN candidate;
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION only_open_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT min(business_day) FROM fresh) <= (SELECT max(day) FROM business_day) THEN
        RAISE EXCEPTION 'an event cannot join a business day that is sealed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;

-- --- sealed days -----------------------------------------------------------------------------------------------------
CREATE TABLE sealed_file (                     -- the one truth about a day's Parquet file; any other file is rebuilt
    day            date   PRIMARY KEY REFERENCES sealed_day (day),
    sha256         bytea  NOT NULL CHECK (octet_length(sha256) = 32),
    rows           bigint NOT NULL,
    writer_version int    NOT NULL,
    written_at_ms  bigint NOT NULL
);
CREATE TABLE sealed_currency (                 -- whose facts of a day are in which currencies: statements exist for these
    day        date NOT NULL REFERENCES sealed_day (day),
    partner_id text NOT NULL,
    currency   text NOT NULL,
    PRIMARY KEY (partner_id, currency, day)
);
CREATE INDEX sealed_partner_days ON sealed_partner (partner_id, day);
CREATE TRIGGER sealed_partner_never_changed BEFORE UPDATE OR DELETE ON sealed_partner
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER sealed_currency_never_changed BEFORE UPDATE OR DELETE ON sealed_currency
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- --- statements ------------------------------------------------------------------------------------------------------
ALTER TABLE statement DROP CONSTRAINT statement_state_check;
ALTER TABLE statement ADD CONSTRAINT statement_state_check
    CHECK (state IN ('CALCULATING', 'CALCULATED', 'APPROVED', 'ISSUED', 'FAILED', 'REFUSED'));
ALTER TABLE statement ADD COLUMN previous_id text REFERENCES statement (statement_id);
ALTER TABLE statement ADD COLUMN signature text;       -- the file is remade byte for byte with it
ALTER TABLE statement ADD COLUMN event_count bigint;
DROP TABLE statement_chunk;

CREATE TABLE statement_commission (            -- what issuing books, kept when it is calculated
    statement_id text   NOT NULL,              -- of `statement`, as the trigger below sees to
    place        bigint NOT NULL,
    event_id     text   NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor <> 0),
    PRIMARY KEY (statement_id, place)
);
CREATE TABLE commission_progress (             -- how far an issued statement's commissions are booked
    statement_id   text   PRIMARY KEY REFERENCES statement (statement_id),
    booked_through bigint NOT NULL
);
CREATE TABLE statement_accrued (               -- what the statement leaves under a per-customer cap; the latest row counts
    partner_id   text   NOT NULL,
    currency     text   NOT NULL,
    key          text   NOT NULL,
    number       int    NOT NULL,
    statement_id text   NOT NULL,
    minor        bigint NOT NULL CHECK (minor > 0),
    PRIMARY KEY (partner_id, currency, key, number)
);
CREATE INDEX statement_accrued_statement ON statement_accrued (statement_id);

-- Results belong to a statement in the making; from CALCULATED on they are what was looked at.
CREATE FUNCTION results_while_calculating() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM (SELECT DISTINCT statement_id FROM touched) AS t
               WHERE NOT EXISTS (SELECT FROM statement s
                                 WHERE s.statement_id = t.statement_id AND s.state = 'CALCULATING')) THEN
        RAISE EXCEPTION 'results belong to a statement in the making' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER statement_commission_written AFTER INSERT ON statement_commission REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION results_while_calculating();
CREATE TRIGGER statement_commission_forgotten AFTER DELETE ON statement_commission REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION results_while_calculating();
CREATE TRIGGER statement_commission_never_changed BEFORE UPDATE OR TRUNCATE ON statement_commission
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER statement_accrued_written AFTER INSERT ON statement_accrued REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION results_while_calculating();
CREATE TRIGGER statement_accrued_forgotten AFTER DELETE ON statement_accrued REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION results_while_calculating();
CREATE TRIGGER statement_accrued_never_changed BEFORE UPDATE OR TRUNCATE ON statement_accrued
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
