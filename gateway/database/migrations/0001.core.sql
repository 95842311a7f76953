-- The walls every room stands on: agreed documents, changes, idempotency, replay, events, audit, bank keys.

CREATE TABLE document (                       -- versions of what lies in partners/ and policies/
    kind          text   NOT NULL CHECK (kind IN ('partner', 'contract', 'policy')),
    id            text   NOT NULL,            -- partner id, contract id, policy id
    version       int    NOT NULL CHECK (version > 0),
    partner_id    text,                       -- of a contract
    body          jsonb  NOT NULL,
    sha256        bytea  NOT NULL CHECK (octet_length(sha256) = 32),
    applied_at_ms bigint NOT NULL,
    applied_by    text   NOT NULL,
    PRIMARY KEY (kind, id, version)
);

CREATE TABLE partner_state (                  -- what happens to a partner; absent = ACTIVE as applied
    partner_id    text PRIMARY KEY,
    state         text NOT NULL CHECK (state IN ('ACTIVE', 'SUSPENDED', 'TERMINATING', 'CLOSED')),
    changed_at_ms bigint NOT NULL,
    changed_by    text NOT NULL,
    reason        text NOT NULL
);

CREATE TABLE app_key (                        -- public keys of partner apps that live outside the files
    client_id     text   NOT NULL,
    kid           text   NOT NULL,
    jwk           jsonb  NOT NULL,
    state         text   NOT NULL CHECK (state IN ('pending', 'active', 'retiring', 'revoked')),
    changed_at_ms bigint NOT NULL,
    PRIMARY KEY (client_id, kid)
);

CREATE TABLE revoked_grant (                  -- until its last token has expired
    grant_id      text   PRIMARY KEY,
    revoked_at_ms bigint NOT NULL,
    until_ms      bigint NOT NULL
);

CREATE TABLE bank_key (                       -- the bank's signing keys, the private half sealed by the key-encryption key
    kid           text   PRIMARY KEY,
    purpose       text   NOT NULL CHECK (purpose IN ('token', 'statement', 'message', 'link')),
    alg           text   NOT NULL CHECK (alg IN ('ES256', 'PS256')),
    public_jwk    jsonb  NOT NULL,
    private_sealed bytea NOT NULL,
    state         text   NOT NULL CHECK (state IN ('next', 'signing', 'published', 'retired')),
    created_at_ms bigint NOT NULL
);
CREATE UNIQUE INDEX bank_key_one_signing ON bank_key (purpose) WHERE state = 'signing';

CREATE TABLE change (                         -- the feed that keeps every worker's snapshot fresh
    seq   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind  text   NOT NULL,
    key   text   NOT NULL,
    at_ms bigint NOT NULL
);

CREATE TABLE idempotency (
    partner_id    text   NOT NULL,
    operation     text   NOT NULL,
    key           text   NOT NULL CHECK (length(key) BETWEEN 1 AND 40),
    request_hash  bytea  NOT NULL,
    resource_id   text   NOT NULL,
    created_at_ms bigint NOT NULL,
    PRIMARY KEY (partner_id, operation, key)
);

CREATE TABLE spent_proof (                    -- jti of DPoP proofs and client assertions: 16 bytes of SHA-256(kind, key, jti)
    digest     bytea  PRIMARY KEY,
    expires_ms bigint NOT NULL
);
CREATE INDEX spent_proof_expiry ON spent_proof (expires_ms);

CREATE TABLE business_day (
    day          date PRIMARY KEY,
    state        text NOT NULL CHECK (state IN ('SEALING', 'SEALED')), -- absent = open
    changed_at_ms bigint NOT NULL
);

CREATE TABLE event (                          -- the outbox and the source of every sealed day: one row a fact
    seq              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id         text   NOT NULL UNIQUE,
    type             text   NOT NULL,
    partner          text,
    campaign         text,
    contract         text,
    contract_version int,
    occurred_at_ms   bigint NOT NULL,
    recorded_at_ms   bigint NOT NULL,
    business_day     date   NOT NULL,
    currency         text,
    amount_minor     bigint NOT NULL,
    subject_token    text,
    idempotency_key  text,
    leaf             bytea  NOT NULL           -- the canonical JSON that is hashed, sealed and proven
);
CREATE INDEX event_day ON event (business_day, partner, seq);

CREATE FUNCTION never_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% rows are never changed or deleted', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER event_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

CREATE FUNCTION only_open_days() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM fresh JOIN business_day ON business_day.day = fresh.business_day) THEN
        RAISE EXCEPTION 'an event cannot join a business day that is sealed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER event_only_open_days AFTER INSERT ON event REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION only_open_days();

-- The first open day from `day` on, held open until this transaction ends (one round trip for every writer).
-- READ COMMITTED: each statement of a volatile function sees what has committed, so a day sealed while we waited is seen.
CREATE FUNCTION hold_open_day(day date, lock_space bigint) RETURNS date LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        PERFORM pg_advisory_xact_lock_shared(lock_space + (day - date '0001-01-01') + 1);
        IF NOT EXISTS (SELECT FROM business_day b WHERE b.day = hold_open_day.day) THEN
            RETURN day;
        END IF;
        day := day + 1;
    END LOOP;
END $$;

CREATE TABLE audit (                          -- hash chain: each row commits to the one before
    seq        bigint PRIMARY KEY,
    at_ms      bigint NOT NULL,
    actor      text   NOT NULL,
    action     text   NOT NULL,
    subject    text   NOT NULL,
    detail     jsonb  NOT NULL,
    previous   bytea  NOT NULL,
    hash       bytea  NOT NULL UNIQUE
);
CREATE TRIGGER audit_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
