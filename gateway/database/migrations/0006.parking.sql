-- Parking: plates bound to a mandate, stays, what they cost, and what was given back. Plates are keyed digests.

CREATE TABLE vehicle_agreement (
    agreement_id  text   PRIMARY KEY,
    partner_id    text   NOT NULL,
    plate_digest  text   NOT NULL,
    plate_masked  text   NOT NULL,
    consent_id    text   NOT NULL,            -- the mandate (domestic-vrp) that pays
    subject_token text   NOT NULL,            -- the customer, as this partner knows them
    status        text   NOT NULL CHECK (status IN ('ACTIVE', 'ENDED')),
    created_at_ms bigint NOT NULL,
    changed_at_ms bigint NOT NULL
);
CREATE UNIQUE INDEX vehicle_agreement_one_active ON vehicle_agreement (partner_id, plate_digest) WHERE status = 'ACTIVE';

CREATE TABLE parking_lot (                    -- cars of ours inside; capacity is the partner's agreed data
    partner_id text NOT NULL,
    site_id    text NOT NULL,
    parked     int  NOT NULL CHECK (parked >= 0),
    PRIMARY KEY (partner_id, site_id)
);

CREATE TABLE parking_session (
    session_id    text   PRIMARY KEY,
    partner_id    text   NOT NULL,
    site_id       text   NOT NULL,
    plate_digest  text   NOT NULL,
    plate_masked  text   NOT NULL,
    agreement_id  text   REFERENCES vehicle_agreement,
    status        text   NOT NULL CHECK (status IN ('BLOCKED', 'PARKED', 'CHARGING', 'OWING', 'LEFT')),
    block_reason  text   CHECK (block_reason IN
                      ('NO_AGREEMENT', 'MANDATE_ENDED', 'OVERDUE', 'ALREADY_PARKED', 'LOT_FULL')),
    entered_at_ms bigint NOT NULL,
    left_at_ms    bigint CHECK (left_at_ms >= entered_at_ms),
    created_at_ms bigint NOT NULL,
    changed_at_ms bigint NOT NULL,
    CHECK ((status = 'BLOCKED') = (block_reason IS NOT NULL)),
    CHECK ((status IN ('CHARGING', 'OWING', 'LEFT')) = (left_at_ms IS NOT NULL)),
    CHECK (status = 'BLOCKED' OR agreement_id IS NOT NULL)
);
CREATE UNIQUE INDEX parking_session_one_live ON parking_session (partner_id, plate_digest)
    WHERE status IN ('PARKED', 'CHARGING');
CREATE INDEX parking_session_owing ON parking_session (partner_id, plate_digest) WHERE status = 'OWING';

CREATE TABLE parking_charge (                 -- a durable saga: every step can be taken again by the id
    charge_id      text   PRIMARY KEY,
    session_id     text   NOT NULL REFERENCES parking_session,
    partner_id     text   NOT NULL,
    state          text   NOT NULL CHECK (state IN ('HELD', 'PAYING', 'ACCEPTED', 'SUCCESS', 'PAY_FAIL')),
    currency       text   NOT NULL,
    fee_minor      bigint NOT NULL CHECK (fee_minor >= 0),
    discount_minor bigint NOT NULL CHECK (discount_minor BETWEEN 0 AND fee_minor),
    offer_id       text,
    redemption_id  text,
    payment_id     text   NOT NULL UNIQUE,
    mandate_id     text   NOT NULL,
    creditor_account text NOT NULL,
    reason         text,
    refunded_minor bigint NOT NULL DEFAULT 0 CHECK (refunded_minor BETWEEN 0 AND fee_minor),
    tries          int    NOT NULL DEFAULT 0,
    next_try_ms    bigint NOT NULL,
    created_at_ms  bigint NOT NULL,
    changed_at_ms  bigint NOT NULL,
    CHECK ((discount_minor > 0) = (redemption_id IS NOT NULL)),
    CHECK ((offer_id IS NULL) = (redemption_id IS NULL)),
    CHECK (refunded_minor = 0 OR state = 'SUCCESS')
);
CREATE UNIQUE INDEX parking_charge_one_open ON parking_charge (session_id) WHERE state <> 'PAY_FAIL';
CREATE INDEX parking_charge_due ON parking_charge (next_try_ms) WHERE state IN ('HELD', 'PAYING', 'ACCEPTED');

CREATE TABLE parking_refund (
    refund_id      text   PRIMARY KEY,
    charge_id      text   NOT NULL REFERENCES parking_charge,
    partner_id     text   NOT NULL,
    state          text   NOT NULL CHECK (state IN ('PENDING', 'SUCCESS', 'FAILED')),
    amount_minor   bigint NOT NULL CHECK (amount_minor > 0),
    cash_minor     bigint NOT NULL CHECK (cash_minor >= 0),
    discount_minor bigint NOT NULL CHECK (discount_minor >= 0),
    reason         text,
    tries          int    NOT NULL DEFAULT 0,
    next_try_ms    bigint NOT NULL,
    created_at_ms  bigint NOT NULL,
    changed_at_ms  bigint NOT NULL,
    CHECK (cash_minor + discount_minor = amount_minor)
);
CREATE UNIQUE INDEX parking_refund_one_pending ON parking_refund (charge_id) WHERE state = 'PENDING';
CREATE INDEX parking_refund_of_charge ON parking_refund (charge_id);
CREATE INDEX parking_refund_due ON parking_refund (next_try_ms) WHERE state = 'PENDING';
