-- Version 2 of events and statements (docs/settlement-rules.md). Homes of before hold leaves of version 1 and are refused.

-- A moment outside these years cannot be written on paper by everybody, so no fact carries one.
ALTER TABLE event ADD CONSTRAINT event_moments_are_bounded CHECK (
    occurred_at_ms BETWEEN 946684800000 AND 253370764799999 AND recorded_at_ms BETWEEN 946684800000 AND 253370764799999);

CREATE TABLE known_customer (                  -- tokens that the bank or an applied fact vouches for: offers need one
    partner_id  text   NOT NULL,
    token       text   NOT NULL,               -- identity token: the epoch is in it
    epoch       int    NOT NULL,
    source      text   NOT NULL CHECK (source IN ('batch', 'ticket', 'consent', 'vehicle', 'feed')),
    known_at_ms bigint NOT NULL,
    PRIMARY KEY (partner_id, token)
);
