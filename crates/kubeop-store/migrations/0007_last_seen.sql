-- When a cluster last answered. Tokens and rules as in 0001.

-- As far as it was noted: when it was registered, when it was connected to, every few minutes since, and when it was found not to answer any
-- more. NULL: never since this column is there.
ALTER TABLE cluster ADD COLUMN last_seen {{ts}};
