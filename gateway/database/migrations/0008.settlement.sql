-- Closed days, statements, and who approved them. Issued is immutable; approvals need two people.

CREATE TABLE sealed_day (
    day           date   PRIMARY KEY REFERENCES business_day (day),
    head          jsonb  NOT NULL,             -- the day head document that was signed
    head_jws      text   NOT NULL,             -- compact JWS over its canonical bytes
    head_hash     bytea  NOT NULL,             -- SHA-256 of those bytes: the next head names it
    root_hash     bytea  NOT NULL,
    event_count   bigint NOT NULL,
    sealed_at_ms  bigint NOT NULL,
    sealed_by     text   NOT NULL
);

CREATE TABLE sealed_partner (                  -- a partner's own tree within the day
    day           date   NOT NULL REFERENCES sealed_day (day),
    partner_id    text   NOT NULL,
    size          bigint NOT NULL,
    root_hash     bytea  NOT NULL,
    PRIMARY KEY (day, partner_id)
);

CREATE TABLE closure (                         -- an operator's wish to close a day; a chore carries it out
    day             date   PRIMARY KEY,
    requested_at_ms bigint NOT NULL,
    requested_by    text   NOT NULL,
    finished_at_ms  bigint,
    failure         text
);

CREATE TABLE statement (
    statement_id     text   PRIMARY KEY,
    partner_id       text   NOT NULL,
    number           int    NOT NULL CHECK (number > 0),
    currency         text   NOT NULL,
    from_day         date   NOT NULL,
    to_day           date   NOT NULL CHECK (to_day >= from_day),
    state            text   NOT NULL CHECK (state IN ('CALCULATING', 'CALCULATED', 'APPROVED', 'ISSUED', 'FAILED')),
    totals           jsonb,
    closing          jsonb,                    -- what the next statement opens with
    line_count       bigint,
    sha256           bytea,                    -- of the whole file
    size_bytes       bigint,
    requested_by     text   NOT NULL,
    requested_at_ms  bigint NOT NULL,
    issued_at_ms     bigint,
    failure          text,
    UNIQUE (partner_id, currency, number)
);
-- One statement at a time: the next one opens with what this one closes.
CREATE UNIQUE INDEX statement_one_open ON statement (partner_id, currency)
    WHERE state IN ('CALCULATING', 'CALCULATED', 'APPROVED');

CREATE TABLE statement_chunk (                 -- the file, in pieces that stream
    statement_id text NOT NULL REFERENCES statement (statement_id),
    ordinal      int  NOT NULL,
    bytes        bytea NOT NULL,
    PRIMARY KEY (statement_id, ordinal)
);

CREATE TABLE statement_approval (
    statement_id text   NOT NULL REFERENCES statement (statement_id),
    role         text   NOT NULL CHECK (role IN ('maker', 'checker')),
    operator_id  text   NOT NULL,
    at_ms        bigint NOT NULL,
    sha256       bytea  NOT NULL,              -- what exactly was approved
    PRIMARY KEY (statement_id, role),
    UNIQUE (statement_id, operator_id)         -- nobody checks what they made
);

CREATE FUNCTION issued_is_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'ISSUED' THEN
        RAISE EXCEPTION 'statement % is issued: correct it with an adjustment in the next one', OLD.statement_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF NEW.state = 'ISSUED' AND
       (SELECT count(DISTINCT operator_id) FROM statement_approval a
        WHERE a.statement_id = NEW.statement_id AND a.sha256 = NEW.sha256) < 2 THEN
        RAISE EXCEPTION 'statement % lacks the approval of two people', NEW.statement_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER statement_issued_is_immutable BEFORE UPDATE ON statement
    FOR EACH ROW EXECUTE FUNCTION issued_is_immutable();
CREATE FUNCTION statement_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'ISSUED' THEN
        RAISE EXCEPTION 'an issued statement is kept' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER statement_is_kept BEFORE DELETE ON statement FOR EACH ROW EXECUTE FUNCTION statement_is_kept();
CREATE TRIGGER statement_chunk_never_changed BEFORE UPDATE ON statement_chunk
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER statement_approval_never_changed BEFORE UPDATE OR DELETE ON statement_approval
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER sealed_day_never_changed BEFORE UPDATE OR DELETE ON sealed_day
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
