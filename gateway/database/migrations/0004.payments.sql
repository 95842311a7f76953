-- Money taken under a customer's mandate (VRP) and given back; and what each period of a mandate has used.

CREATE TABLE payment (
    payment_id        text   PRIMARY KEY,        -- the end-to-end id: the core bank acts once per id
    partner_id        text   NOT NULL,
    consent_id        text   NOT NULL REFERENCES consent (consent_id),
    debtor_account_id text   NOT NULL,
    creditor_account  text   NOT NULL,
    amount_minor      bigint NOT NULL CHECK (amount_minor > 0),
    currency          text   NOT NULL,
    reference         text   NOT NULL,
    mcc               text   NOT NULL,
    request           jsonb,                     -- Data and Risk as the partner sent them; null: collected by a capability
    status            text   NOT NULL DEFAULT 'PDNG' CHECK (status IN ('PDNG', 'ACSC', 'RJCT')),
    reason            text   NOT NULL DEFAULT '',
    refunded_minor    bigint NOT NULL DEFAULT 0, -- given back, or being given back
    tries             int    NOT NULL DEFAULT 0, -- questions to the core bank about a silent order
    next_try_ms       bigint NOT NULL,
    created_ms        bigint NOT NULL,
    changed_ms        bigint NOT NULL,
    CHECK (refunded_minor BETWEEN 0 AND amount_minor),
    CHECK (refunded_minor = 0 OR status = 'ACSC')
);
CREATE INDEX payment_pending ON payment (next_try_ms) WHERE status = 'PDNG';
CREATE INDEX payment_consent ON payment (consent_id);

CREATE TABLE payment_usage (                      -- money ordered and not rejected, by limit and period of a mandate
    consent_id  text     NOT NULL REFERENCES consent (consent_id),
    limit_no    smallint NOT NULL,               -- place in ControlParameters.PeriodicLimits
    starts_on   date     NOT NULL,               -- first day of the period, Asia/Shanghai
    limit_minor bigint   NOT NULL,
    used_minor  bigint   NOT NULL,
    PRIMARY KEY (consent_id, limit_no, starts_on),
    CHECK (used_minor BETWEEN 0 AND limit_minor)
);

CREATE TABLE payment_refund (
    refund_id    text   PRIMARY KEY,
    payment_id   text   NOT NULL REFERENCES payment (payment_id),
    partner_id   text   NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    status       text   NOT NULL DEFAULT 'PDNG' CHECK (status IN ('PDNG', 'ACSC', 'RJCT')),
    reason       text   NOT NULL DEFAULT '',
    tries        int    NOT NULL DEFAULT 0,
    next_try_ms  bigint NOT NULL,
    created_ms   bigint NOT NULL,
    changed_ms   bigint NOT NULL
);
CREATE INDEX payment_refund_pending ON payment_refund (next_try_ms) WHERE status = 'PDNG';
CREATE INDEX payment_refund_payment ON payment_refund (payment_id);

-- An outcome is for good, and nobody changes what was ordered.
CREATE FUNCTION payment_decided_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> 'PDNG' AND NEW.status <> OLD.status THEN
        RAISE EXCEPTION 'payment % is % for good', OLD.payment_id, OLD.status USING ERRCODE = 'restrict_violation';
    END IF;
    IF (NEW.payment_id, NEW.partner_id, NEW.consent_id, NEW.debtor_account_id, NEW.creditor_account, NEW.amount_minor,
        NEW.currency) IS DISTINCT FROM
       (OLD.payment_id, OLD.partner_id, OLD.consent_id, OLD.debtor_account_id, OLD.creditor_account, OLD.amount_minor,
        OLD.currency) THEN
        RAISE EXCEPTION 'payment % was ordered as it is', OLD.payment_id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER payment_decided_once BEFORE UPDATE ON payment FOR EACH ROW EXECUTE FUNCTION payment_decided_once();

CREATE FUNCTION payment_refund_decided_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.status <> 'PDNG' AND NEW.status <> OLD.status)
       OR (NEW.refund_id, NEW.payment_id, NEW.partner_id, NEW.amount_minor) IS DISTINCT FROM
          (OLD.refund_id, OLD.payment_id, OLD.partner_id, OLD.amount_minor) THEN
        RAISE EXCEPTION 'refund % is % for good', OLD.refund_id, OLD.status USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER payment_refund_decided_once BEFORE UPDATE ON payment_refund
    FOR EACH ROW EXECUTE FUNCTION payment_refund_decided_once();
