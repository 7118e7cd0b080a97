-- What is to be told to the outside. Tokens and rules as in 0001.

-- An event on its way to one hook, written in the transaction of the change it tells of, and gone when it was delivered. seq orders the
-- events of one subject: each is written while the subject's row is held. A delivery is due at next_at; while a process carries it out,
-- next_at is when another may take over. dead_at: it was given up; it stays to be looked at and sent again. Not tenant-owned: a queue of
-- the platform, whose tenant_id says only whom an event is about.
CREATE TABLE event_delivery (
  seq {{sequence_key}},
  id {{uuid}} NOT NULL UNIQUE,
  hook TEXT NOT NULL,
  event_id {{uuid}} NOT NULL,
  event_type TEXT NOT NULL,
  subject TEXT NOT NULL,
  tenant_id {{uuid}},
  data {{json}} NOT NULL,
  occurred_at {{ts}} NOT NULL,
  give_up_at {{ts}} NOT NULL,
  next_at {{ts}} NOT NULL,
  claimed_by {{uuid}},
  attempts {{i64}} NOT NULL,
  last_status {{i64}},
  last_error TEXT,
  dead_at {{ts}}
){{table_opts}};
CREATE INDEX event_delivery_due ON event_delivery (hook, next_at, seq) WHERE dead_at IS NULL;
CREATE INDEX event_delivery_subject ON event_delivery (hook, subject, seq) WHERE dead_at IS NULL;
CREATE INDEX event_delivery_give_up ON event_delivery (give_up_at, seq) WHERE dead_at IS NULL;
CREATE INDEX event_delivery_claimed ON event_delivery (claimed_by) WHERE claimed_by IS NOT NULL;
CREATE INDEX event_delivery_dead ON event_delivery (dead_at, id) WHERE dead_at IS NOT NULL;

-- Since when a cluster is ready, as far as events told of it; NULL: it is not, or nobody was to be told.
ALTER TABLE cluster ADD COLUMN ready_at {{ts}};
