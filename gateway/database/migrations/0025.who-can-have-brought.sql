-- Who can have brought a customer is known by partner: a goal is looked up under the keys of those and of nobody else.

CREATE TABLE referral_span (                  -- of all touches of a partner; follows from its own files and scans only
    partner_id        text   PRIMARY KEY,
    first_recorded_ms bigint NOT NULL,        -- who joined until then was not brought by it
    last_occurred_ms  bigint NOT NULL         -- nor who joined a look-back after that
);
INSERT INTO referral_span
    SELECT partner_id, min(recorded_at_ms), max(occurred_at_ms) FROM referral_touch GROUP BY partner_id;

-- By the table itself, so that whoever writes a touch, an older program too, is found again.
CREATE FUNCTION widen_referral_span() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO referral_span AS s (partner_id, first_recorded_ms, last_occurred_ms)
        SELECT partner_id, min(recorded_at_ms), max(occurred_at_ms) FROM added GROUP BY partner_id ORDER BY partner_id
    ON CONFLICT (partner_id) DO UPDATE
        SET first_recorded_ms = LEAST(s.first_recorded_ms, excluded.first_recorded_ms),
            last_occurred_ms = GREATEST(s.last_occurred_ms, excluded.last_occurred_ms)
        WHERE s.first_recorded_ms > excluded.first_recorded_ms OR s.last_occurred_ms < excluded.last_occurred_ms;
    RETURN NULL;
END $$;
CREATE TRIGGER referral_touch_widens_span AFTER INSERT ON referral_touch REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION widen_referral_span();

-- A goal waits for a file only if its customer is in it: which tokens a file that is not wholly applied holds.
CREATE TABLE referral_file_tokens (           -- sorted, in pieces: an index over the rows would cost five times as much
    batch_id   text     COLLATE "C" NOT NULL,
    first_hash bigint   NOT NULL,
    hashes     bigint[] NOT NULL,             -- hashtextextended(customer_token, 0)
    PRIMARY KEY (batch_id, first_hash)
);
CREATE FUNCTION keep_file_tokens(kept_batch_id text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO referral_file_tokens
        SELECT kept_batch_id, min(hash), array_agg(hash ORDER BY hash)
        FROM (SELECT hash, (row_number() OVER (ORDER BY hash) - 1) / 200 AS piece
              FROM (SELECT DISTINCT hashtextextended(customer_token, 0) AS hash FROM referral_row
                    WHERE batch_id = kept_batch_id) AS named) AS numbered
        GROUP BY piece
$$;
CREATE FUNCTION follow_referral_file() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state = 'RECEIVED' THEN
        PERFORM keep_file_tokens(NEW.batch_id);
    ELSE
        DELETE FROM referral_file_tokens WHERE batch_id = NEW.batch_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER referral_batch_names_tokens AFTER UPDATE OF state ON referral_batch FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND NEW.state IN ('RECEIVED', 'APPLIED')) EXECUTE FUNCTION follow_referral_file();
DO $$ BEGIN PERFORM keep_file_tokens(batch_id) FROM referral_batch WHERE state IN ('RECEIVED', 'APPLYING'); END $$;

ALTER TABLE referral_goal DROP CONSTRAINT referral_goal_outcome_check;
ALTER TABLE referral_goal ADD CONSTRAINT referral_goal_outcome_check CHECK (outcome IN
    ('owned', 'converted', 'repeated', 'nobody', 'window_over', 'no_contract', 'no_commission', 'currency',
     'waits_for_anchor', 'waits_for_owner', 'waits_for_terms'));
DROP INDEX referral_goal_waiting, referral_goal_terms;
CREATE INDEX referral_goal_waiting ON referral_goal (customer_id, joined_at_ms)
    WHERE outcome IN ('waits_for_anchor', 'waits_for_owner', 'waits_for_terms');
CREATE INDEX referral_goal_undecided ON referral_goal (customer_id, joined_at_ms)
    WHERE outcome IN ('waits_for_owner', 'waits_for_terms');
