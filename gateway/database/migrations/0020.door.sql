-- The door: bank keys that were revoked, log-ins that failed, sessions of people, and why and from where in the audit.

ALTER TABLE bank_key DROP CONSTRAINT bank_key_state_check;
ALTER TABLE bank_key ADD CONSTRAINT bank_key_state_check
    CHECK (state IN ('next', 'signing', 'published', 'retired', 'revoked'));  -- revoked: nothing it signed is good
ALTER TABLE bank_key DROP CONSTRAINT bank_key_retired_has_its_moment;
ALTER TABLE bank_key ADD CONSTRAINT bank_key_retired_has_its_moment CHECK (
    (state IN ('next', 'signing')) = (retired_at_ms IS NULL)
) NOT VALID; -- rows of long before have no moment

CREATE TABLE login_failure (                  -- what a customer's log-in has against it, by (customer, address) and the like
    key       bytea  PRIMARY KEY CHECK (octet_length(key) = 16),  -- keyed hash: the table tells no names
    failures  int    NOT NULL CHECK (failures > 0),
    last_ms   bigint NOT NULL,
    next_ms   bigint NOT NULL                  -- no try before this moment
);
CREATE INDEX login_failure_age ON login_failure (last_ms);

CREATE TABLE person_session (                  -- who is logged in at our own pages; log-out deletes the row
    digest  bytea  PRIMARY KEY CHECK (octet_length(digest) = 32),  -- SHA-256 of the cookie
    kind    text   NOT NULL CHECK (kind IN ('operator', 'customer')),
    person  text   NOT NULL,                   -- an operator's key hash in hexadecimal, or a customer's id
    ends_ms bigint NOT NULL
);
CREATE INDEX person_session_end ON person_session (ends_ms);
