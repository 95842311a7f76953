-- A file that is kept while goals are judged was received after everybody of whom the feed has told by then.

ALTER TABLE referral_goal_cursor ADD COLUMN joined_until_ms bigint NOT NULL DEFAULT 0; -- the last joining that was told
