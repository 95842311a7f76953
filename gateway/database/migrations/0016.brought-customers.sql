-- Only brought customers are paid for, and the order in which the bank tells its goals decides nothing (decision 8).

DROP TABLE referral_goal, referral_owner, referral_claim;

CREATE TABLE referral_claim (                 -- what is said about one customer token, by the partner or by the bank's app
    partner_id     text   NOT NULL,
    claim_id       text   COLLATE "C" NOT NULL,
    customer_token text   COLLATE "C" NOT NULL,
    witness        text   NOT NULL CHECK (witness IN ('partner', 'bank')), -- bank: a scan's ticket; the partner reads of it once it pays
    state          text   NOT NULL CHECK (state IN ('ELIGIBLE', 'EXCLUDED', 'OWNING', 'LOST', 'CONVERTED', 'EXPIRED')),
    reason         text,                      -- why EXCLUDED: for the bank only
    recorded_at_ms bigint NOT NULL,
    last_told_ms   bigint,                    -- the latest touch that the partner's files told, the file, and how long it counts
    last_batch_id  text,
    told_until_ms  bigint,
    expires_at_ms  bigint NOT NULL,           -- of an ELIGIBLE claim: its lookback; of an owner: its post window
    customer_id    text,                      -- set by the decision, never before
    joined_at_ms   bigint,
    paid_at_ms     bigint,                    -- its first goal that a commission is due for: from then on the partner sees its fate
    PRIMARY KEY (partner_id, claim_id),
    UNIQUE (partner_id, customer_token, witness),
    CHECK ((witness = 'partner') = (last_told_ms IS NOT NULL AND last_batch_id IS NOT NULL AND told_until_ms IS NOT NULL)),
    CHECK (state NOT IN ('OWNING', 'LOST', 'CONVERTED', 'EXCLUDED') OR (customer_id IS NOT NULL AND joined_at_ms IS NOT NULL)),
    CHECK ((state = 'EXCLUDED') = (reason IS NOT NULL))
);
CREATE INDEX referral_claim_expiry ON referral_claim (expires_at_ms) WHERE state IN ('ELIGIBLE', 'OWNING', 'CONVERTED');
CREATE INDEX referral_claim_state ON referral_claim (partner_id, state, claim_id) WHERE state <> 'ELIGIBLE';
CREATE INDEX referral_claim_paid ON referral_claim (partner_id, claim_id) WHERE paid_at_ms IS NOT NULL;

CREATE TABLE referral_owner (                 -- who brought a customer, decided once, as of the moment the person joined the bank
    customer_id    text   NOT NULL,
    joined_at_ms   bigint NOT NULL,
    partner_id     text,                      -- null: nobody
    claim_id       text   COLLATE "C",
    touch_id       bigint REFERENCES referral_touch,
    evidence       text,
    campaign       text,
    subject_token  text,
    exclusive_for  text[] NOT NULL,           -- the goals with which the owner's contract begins to count
    post_window_ms bigint NOT NULL,           -- how long after that
    rule           text   NOT NULL,           -- the version of the bank's order that decided
    trace          jsonb  NOT NULL,
    decided_at_ms  bigint NOT NULL,
    PRIMARY KEY (customer_id, joined_at_ms),  -- at most one owner, whatever runs in parallel
    CHECK ((partner_id IS NULL) = (claim_id IS NULL) AND (partner_id IS NULL) = (touch_id IS NULL)
           AND (partner_id IS NULL) = (evidence IS NULL) AND (partner_id IS NULL) = (subject_token IS NULL))
);
CREATE TRIGGER referral_owner_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON referral_owner
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

CREATE TABLE referral_undecided (             -- customers whose decision waits for terms that this program cannot read
    customer_id  text     NOT NULL,
    joined_at_ms bigint   NOT NULL,
    tenures      bigint[] NOT NULL,           -- since, until (0: still), since, until …
    partner_ids  text[]   NOT NULL,           -- the customer's tokens under every key: the phone is not kept
    tokens       text[]   NOT NULL,
    PRIMARY KEY (customer_id, joined_at_ms)
);

CREATE TABLE referral_first (                 -- a customer's first goal of each kind: what counts once counts here
    customer_id   text   NOT NULL,
    joined_at_ms  bigint NOT NULL,
    goal          text   NOT NULL,
    reached_at_ms bigint NOT NULL,            -- as the bank says, whichever of them it told first
    bank_event_id text   NOT NULL UNIQUE,
    PRIMARY KEY (customer_id, joined_at_ms, goal)
);
CREATE TRIGGER referral_first_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON referral_first
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

CREATE TABLE referral_goal (                  -- every event of the bank's feed, once
    bank_event_id  text   PRIMARY KEY,
    customer_id    text   NOT NULL,
    joined_at_ms   bigint NOT NULL,
    goal           text   NOT NULL,
    occurred_at_ms bigint NOT NULL,
    recorded_at_ms bigint NOT NULL,
    amount_minor   bigint NOT NULL,
    currency       text   NOT NULL,
    outcome        text   NOT NULL CHECK (outcome IN
                       ('owned', 'converted', 'repeated', 'nobody', 'window_over', 'no_contract', 'no_commission', 'currency',
                        'waits_for_anchor', 'waits_for_terms')),
    partner_id     text,
    claim_id       text   COLLATE "C",
    event_id       text   UNIQUE,             -- goal.reached, where a contract pays for it
    CHECK ((outcome IN ('owned', 'converted')) = (event_id IS NOT NULL))
);
CREATE INDEX referral_goal_claim ON referral_goal (claim_id, occurred_at_ms) WHERE event_id IS NOT NULL;
CREATE INDEX referral_goal_waiting ON referral_goal (customer_id, joined_at_ms)
    WHERE outcome IN ('waits_for_anchor', 'waits_for_terms');
CREATE INDEX referral_goal_terms ON referral_goal (customer_id, joined_at_ms) WHERE outcome = 'waits_for_terms';

CREATE TABLE referral_goal_aside (            -- events of the feed that cannot be: for the bank to correct and tell again
    aside_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    feed_cursor     text   NOT NULL UNIQUE,
    bank_event_id   text   NOT NULL,
    goal            text   NOT NULL,
    reason          text   NOT NULL,
    set_aside_at_ms bigint NOT NULL
);

ALTER TABLE sandbox_bank.account ADD COLUMN closed_ms bigint CHECK (closed_ms > opened_ms);
CREATE INDEX customer_event_of ON sandbox_bank.customer_event (customer_id, kind, occurred_ms);
