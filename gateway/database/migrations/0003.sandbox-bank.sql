-- The sandbox bank: a small core bank of its own, in its own schema; the gateway never joins with it.

CREATE SCHEMA sandbox_bank;

CREATE TABLE sandbox_bank.customer (
    customer_id text PRIMARY KEY,
    name        text NOT NULL,
    phone       text NOT NULL UNIQUE,
    login       text NOT NULL UNIQUE,
    passcode    text NOT NULL                 -- scrypt, salted; the demo's passcodes are public, the habit is not
);

CREATE TABLE sandbox_bank.account (
    account_id     text PRIMARY KEY,
    customer_id    text REFERENCES sandbox_bank.customer (customer_id), -- null: a partner's or the bank's own account
    currency       text NOT NULL,
    nickname       text NOT NULL,
    type_code      text NOT NULL,
    scheme         text NOT NULL,
    identification text NOT NULL UNIQUE,
    holder         text NOT NULL,
    opened_ms      bigint NOT NULL,
    balance_minor  bigint NOT NULL DEFAULT 0,
    overdraft      boolean NOT NULL DEFAULT false,
    CHECK (balance_minor >= 0 OR overdraft)
);
CREATE INDEX account_customer ON sandbox_bank.account (customer_id);

CREATE TABLE sandbox_bank.movement (           -- both sides of every movement; each pair sums to zero
    seq            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    movement_id    text   NOT NULL,
    account_id     text   NOT NULL REFERENCES sandbox_bank.account (account_id),
    amount_minor   bigint NOT NULL,
    balance_minor  bigint NOT NULL,            -- after it
    booked_ms      bigint NOT NULL,
    information    text   NOT NULL,
    merchant       text   NOT NULL DEFAULT '',
    mcc            text   NOT NULL DEFAULT '',
    UNIQUE (movement_id, account_id)
);
CREATE INDEX movement_account ON sandbox_bank.movement (account_id, seq);

CREATE FUNCTION sandbox_bank.movements_balance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM fresh GROUP BY movement_id HAVING sum(amount_minor) <> 0) THEN
        RAISE EXCEPTION 'a movement does not sum to zero' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER movement_balances AFTER INSERT ON sandbox_bank.movement REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION sandbox_bank.movements_balance();

CREATE TABLE sandbox_bank.bank_order (         -- payments and refunds by the gateway's id: each is carried out once
    order_id       text PRIMARY KEY,
    kind           text NOT NULL CHECK (kind IN ('payment', 'refund')),
    payment_id     text REFERENCES sandbox_bank.bank_order (order_id),
    debtor         text NOT NULL,
    creditor       text NOT NULL,
    amount_minor   bigint NOT NULL CHECK (amount_minor > 0),
    currency       text NOT NULL,
    status         text NOT NULL CHECK (status IN ('PDNG', 'ACSC', 'RJCT')),
    reason         text NOT NULL DEFAULT '',
    refunded_minor bigint NOT NULL DEFAULT 0,
    CHECK (refunded_minor BETWEEN 0 AND amount_minor)
);

CREATE TABLE sandbox_bank.customer_event (     -- the goal feed
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     text   NOT NULL UNIQUE,
    kind         text   NOT NULL CHECK (kind IN ('ACCOUNT_OPENED', 'CARD_ACTIVATED', 'SPEND')),
    customer_id  text   NOT NULL REFERENCES sandbox_bank.customer (customer_id),
    amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
    currency     text   NOT NULL,
    occurred_ms  bigint NOT NULL,
    scan_ticket  text
);

CREATE TABLE sandbox_bank.fault (              -- what the next orders suffer: tests and demonstrations drive it as data
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    effect    text NOT NULL CHECK (effect IN ('lose_request', 'lose_answer', 'reject', 'pend')),
    remaining int  NOT NULL CHECK (remaining >= 0)
);
