-- Referrals: identity keys, batches, links, scans, touches, claims, who owns a customer's goal, and the goals reached.

CREATE TABLE identity_key (                   -- per partner and epoch; the partner gets its own, nobody another's
    partner_id    text   NOT NULL,
    epoch         int    NOT NULL CHECK (epoch BETWEEN 1 AND 99999),
    key_sealed    bytea  NOT NULL,
    created_at_ms bigint NOT NULL,
    PRIMARY KEY (partner_id, epoch)
);
CREATE TRIGGER identity_key_never_changed BEFORE UPDATE OR TRUNCATE ON identity_key  -- DELETE is the erasure of an epoch
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

CREATE TABLE referral_batch (                 -- DECLARED, then RECEIVED with its whole file, APPLYING by chunks, APPLIED
    batch_id       text   COLLATE "C" PRIMARY KEY,
    partner_id     text   NOT NULL,
    out_number     text   NOT NULL CHECK (length(out_number) BETWEEN 1 AND 64),
    row_count      int    NOT NULL CHECK (row_count BETWEEN 1 AND 1000000),
    file_sha256    bytea  NOT NULL CHECK (octet_length(file_sha256) = 32),
    control_total  int    NOT NULL CHECK (control_total BETWEEN 1 AND row_count), -- distinct customer tokens in the file
    state          text   NOT NULL CHECK (state IN ('DECLARED', 'RECEIVED', 'APPLYING', 'APPLIED')),
    declared_at_ms bigint NOT NULL,
    received_at_ms bigint,
    applied_at_ms  bigint,
    cursor_row     int    NOT NULL DEFAULT 0, -- rows up to here are applied; the next chunk starts behind it
    ok_count       int    NOT NULL DEFAULT 0,
    error_count    int    NOT NULL DEFAULT 0,
    excluded_count int    NOT NULL DEFAULT 0,
    UNIQUE (partner_id, out_number),
    CHECK (cursor_row BETWEEN 0 AND row_count AND ok_count + error_count + excluded_count = cursor_row),
    CHECK ((state = 'DECLARED') = (received_at_ms IS NULL)),
    CHECK ((state = 'APPLIED') = (applied_at_ms IS NOT NULL)),
    CHECK ((state = 'APPLIED') = (cursor_row = row_count))
);
CREATE UNIQUE INDEX referral_batch_one_file ON referral_batch (partner_id, file_sha256) WHERE state <> 'DECLARED';
CREATE INDEX referral_batch_waiting ON referral_batch (received_at_ms, batch_id) WHERE state IN ('RECEIVED', 'APPLYING');

CREATE TABLE referral_row (                   -- the file as it came, text only; a row leaves when its chunk is applied
    batch_id       text COLLATE "C" NOT NULL,
    row_no         int  NOT NULL,
    customer_token text COLLATE "C" NOT NULL,
    consent_ref    text NOT NULL,
    touched_at     text NOT NULL,
    site           text NOT NULL,
    PRIMARY KEY (batch_id, row_no)
);

CREATE TABLE referral_row_refused (           -- rows that made no touch, with the stable code; the others are in referral_touch
    batch_id text COLLATE "C" NOT NULL,
    row_no   int  NOT NULL,
    code     text NOT NULL,
    PRIMARY KEY (batch_id, row_no)
);

CREATE TABLE referral_claim (                 -- what a partner says about one customer token
    partner_id     text   NOT NULL,
    claim_id       text   COLLATE "C" NOT NULL,
    customer_token text   COLLATE "C" NOT NULL,
    state          text   NOT NULL CHECK (state IN ('ELIGIBLE', 'OWNING', 'LOST', 'CONVERTED', 'EXPIRED')),
    recorded_at_ms bigint NOT NULL,
    last_told_ms   bigint,                    -- the latest touch that the partner's files told, and the file
    last_batch_id  text,
    expires_at_ms  bigint NOT NULL,           -- of an ELIGIBLE claim: its lookback; of an owner: its post window
    customer_id    text,                      -- set by the decision, never before
    goal           text,
    PRIMARY KEY (partner_id, claim_id),
    UNIQUE (partner_id, customer_token),
    CHECK (state NOT IN ('OWNING', 'LOST', 'CONVERTED') OR (customer_id IS NOT NULL AND goal IS NOT NULL))
);
CREATE INDEX referral_claim_expiry ON referral_claim (expires_at_ms) WHERE state IN ('ELIGIBLE', 'OWNING', 'CONVERTED');
CREATE INDEX referral_claim_state ON referral_claim (partner_id, state, claim_id) WHERE state <> 'ELIGIBLE';

CREATE TABLE referral_link (                  -- signed by the bank; header and signature are the JWS without its payload
    link_id       text   PRIMARY KEY,
    partner_id    text   NOT NULL,
    landing       text   NOT NULL,            -- a name of the bank's own pages, never an address of the partner
    campaign      text   NOT NULL,
    site          text   NOT NULL,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL CHECK (expires_at_ms > created_at_ms),
    jws_header    text   NOT NULL,
    jws_signature text   NOT NULL
);

CREATE TABLE referral_scan (                  -- a followed link: nobody yet; the bank's app presents the ticket, once
    ticket_sha256   bytea  PRIMARY KEY CHECK (octet_length(ticket_sha256) = 32),
    link_id         text   NOT NULL REFERENCES referral_link,
    partner_id      text   NOT NULL,
    scanned_at_ms   bigint NOT NULL,
    expires_at_ms   bigint NOT NULL,
    presented_by    text                      -- the bank's event that carried the ticket
);
CREATE INDEX referral_scan_link ON referral_scan (link_id);
CREATE INDEX referral_scan_forgotten ON referral_scan (expires_at_ms) WHERE presented_by IS NULL;

CREATE TABLE referral_touch (                 -- the log that attribution reads: append only
    touch_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partner_id     text   NOT NULL,
    claim_id       text   COLLATE "C" NOT NULL,
    evidence       text   NOT NULL CHECK (evidence IN ('signed_scan', 'click_id', 'batch', 'code')),
    occurred_at_ms bigint NOT NULL,
    recorded_at_ms bigint NOT NULL CHECK (occurred_at_ms <= recorded_at_ms),
    consent_ref    text   NOT NULL,           -- the partner's record of the customer's consent; of a scan, the scan itself
    site           text   NOT NULL,
    campaign       text   NOT NULL,
    batch_id       text   COLLATE "C",
    row_no         int,
    link_id        text,
    CHECK ((evidence = 'batch') = (batch_id IS NOT NULL AND row_no IS NOT NULL)),
    CHECK ((evidence = 'signed_scan') = (link_id IS NOT NULL))
);
CREATE UNIQUE INDEX referral_touch_row ON referral_touch (batch_id, row_no) WHERE batch_id IS NOT NULL; -- applied once
CREATE INDEX referral_touch_claim ON referral_touch (claim_id);
CREATE TRIGGER referral_touch_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON referral_touch
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

CREATE TABLE referral_owner (                 -- the first time a customer reached a goal, decided once, across all partners
    customer_id   text   NOT NULL,
    goal          text   NOT NULL,
    via           text   NOT NULL CHECK (via IN ('touch', 'owner', 'nobody')),
    partner_id    text,
    claim_id      text   COLLATE "C",
    touch_id      bigint REFERENCES referral_touch,
    evidence      text,
    campaign      text,
    subject_token text,
    anchor_at_ms  bigint NOT NULL,            -- when the goal was reached
    until_ms      bigint NOT NULL,            -- end of the post window: later goals go to the owner until then
    rule          text   NOT NULL,            -- the version of the bank's order that decided
    trace         jsonb  NOT NULL,
    bank_event_id text   NOT NULL UNIQUE,
    decided_at_ms bigint NOT NULL,
    PRIMARY KEY (customer_id, goal),          -- at most one owner, whatever runs in parallel
    CHECK ((via = 'nobody') = (partner_id IS NULL)),
    CHECK ((partner_id IS NULL) = (claim_id IS NULL)),
    CHECK ((via = 'touch') = (touch_id IS NOT NULL))
);
CREATE TRIGGER referral_owner_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON referral_owner
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

CREATE TABLE referral_goal (                  -- every event of the bank's feed, once
    bank_event_id  text   PRIMARY KEY,
    customer_id    text   NOT NULL,
    goal           text   NOT NULL,
    occurred_at_ms bigint NOT NULL,
    recorded_at_ms bigint NOT NULL,
    amount_minor   bigint NOT NULL,
    outcome        text   NOT NULL CHECK (outcome IN
                       ('owned', 'converted', 'repeated', 'nobody', 'window_over', 'no_contract', 'currency')),
    partner_id     text,
    claim_id       text   COLLATE "C",
    event_id       text   UNIQUE,             -- goal.reached, where a contract pays for it
    CHECK ((outcome IN ('owned', 'converted')) = (event_id IS NOT NULL))
);
CREATE INDEX referral_goal_claim ON referral_goal (claim_id, occurred_at_ms) WHERE event_id IS NOT NULL;

CREATE TABLE referral_goal_cursor (           -- how far the bank's feed has been read
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    after_cursor text    NOT NULL
);
INSERT INTO referral_goal_cursor (after_cursor) VALUES ('');
