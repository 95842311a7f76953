-- What customers allowed, the grants that stand for it, and the authorization server's short memory.

CREATE TABLE consent (
    consent_id  text   PRIMARY KEY,
    partner_id  text   NOT NULL,
    client_id   text   NOT NULL,
    kind        text   NOT NULL CHECK (kind IN ('account-access', 'domestic-vrp')),
    status      text   NOT NULL CHECK (status IN ('AWAU', 'AUTH', 'RJCT', 'CANC', 'EXPD')),
    body        jsonb  NOT NULL,               -- Data as the partner asked for it
    customer_id text,
    account_ids text[] NOT NULL DEFAULT '{}',  -- chosen by the customer
    created_ms  bigint NOT NULL,
    changed_ms  bigint NOT NULL,
    expires_ms  bigint,                        -- absent: until somebody ends it
    CHECK (status <> 'AUTH' OR (customer_id IS NOT NULL AND cardinality(account_ids) > 0)),
    CHECK (kind <> 'domestic-vrp' OR cardinality(account_ids) <= 1)
);
CREATE INDEX consent_expiry ON consent (expires_ms) WHERE status IN ('AWAU', 'AUTH');
CREATE INDEX consent_customer ON consent (customer_id) WHERE customer_id IS NOT NULL;

CREATE FUNCTION consent_moves_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.status, NEW.status) NOT IN (('AWAU', 'AUTH'), ('AWAU', 'RJCT'), ('AWAU', 'CANC'), ('AWAU', 'EXPD'),
                                        ('AUTH', 'CANC'), ('AUTH', 'EXPD')) THEN
        RAISE EXCEPTION 'consent % does not go from % to %', OLD.consent_id, OLD.status, NEW.status
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF (NEW.partner_id, NEW.client_id, NEW.kind, NEW.body) IS DISTINCT FROM
       (OLD.partner_id, OLD.client_id, OLD.kind, OLD.body)
       OR (OLD.status = 'AUTH' AND (NEW.customer_id, NEW.account_ids) IS DISTINCT FROM (OLD.customer_id, OLD.account_ids)) THEN
        RAISE EXCEPTION 'consent % was given as it is', OLD.consent_id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER consent_moves_forward BEFORE UPDATE ON consent FOR EACH ROW EXECUTE FUNCTION consent_moves_forward();

CREATE TABLE oauth_grant (                    -- one authorization by one customer; all its codes and tokens carry the id
    grant_id    text   PRIMARY KEY,
    client_id   text   NOT NULL,
    partner_id  text   NOT NULL,
    customer_id text   NOT NULL,
    consent_id  text   NOT NULL REFERENCES consent (consent_id),
    scopes      text[] NOT NULL,
    created_ms  bigint NOT NULL,
    revoked_ms  bigint
);
CREATE INDEX oauth_grant_consent ON oauth_grant (consent_id);

CREATE TABLE pushed_request (                 -- RFC 9126; the request_uri itself is not kept
    digest       bytea  PRIMARY KEY,           -- SHA-256 of the request_uri
    client_id    text   NOT NULL,
    consent_id   text   NOT NULL REFERENCES consent (consent_id),
    redirect_uri text   NOT NULL,
    scopes       text[] NOT NULL,
    state        text,
    challenge    text   NOT NULL,              -- PKCE, S256
    jkt          text,                         -- the DPoP key that the code will be bound to
    expires_ms   bigint NOT NULL,              -- to be opened by then
    browser      bytea,                        -- SHA-256 of the cookie of the browser that opened it last
    ends_ms      bigint,                       -- and finished in that browser by then
    customer_id  text,                         -- who logged in there
    login_tries  int    NOT NULL DEFAULT 0,
    completed_ms bigint
);
CREATE INDEX pushed_request_expiry ON pushed_request (expires_ms);

CREATE TABLE oauth_code (
    digest       bytea  PRIMARY KEY,           -- SHA-256 of the code
    grant_id     text   NOT NULL REFERENCES oauth_grant (grant_id),
    redirect_uri text   NOT NULL,
    challenge    text   NOT NULL,
    jkt          text,
    expires_ms   bigint NOT NULL,
    used_ms      bigint
);
CREATE INDEX oauth_code_expiry ON oauth_code (expires_ms);

CREATE TABLE refresh_token (
    digest     bytea  PRIMARY KEY,             -- SHA-256 of the token
    grant_id   text   NOT NULL REFERENCES oauth_grant (grant_id),
    created_ms bigint NOT NULL
);

CREATE TABLE sandbox_approval (               -- the next authorization of this consent goes through without pages, once
    consent_id text   PRIMARY KEY REFERENCES consent (consent_id),
    created_ms bigint NOT NULL
);
