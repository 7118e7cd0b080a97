-- The audit log is sealed in chains, and answers of POSTs are kept for their Idempotency-Key. Tokens and rules as in 0001.

-- A record's place in its tenant's chain, and the hash over it and the hash before it; NULL until the sealer has been there.
ALTER TABLE audit_record ADD COLUMN seq {{i64}};
ALTER TABLE audit_record ADD COLUMN hash {{bytes}};
CREATE INDEX audit_record_unsealed ON audit_record (tenant_id, at, id) WHERE seq IS NULL;
CREATE UNIQUE INDEX audit_record_seq ON audit_record (tenant_id, seq) WHERE seq IS NOT NULL;

-- The end of each chain: the last place that is sealed and its hash. mac binds all of it to this installation's key. The nil tenant is the
-- platform: its row is held while records are sealed, so that sealers take turns; chains is, there alone, how many chains there are.
CREATE TABLE audit_chain (
  tenant_id {{uuid}} NOT NULL PRIMARY KEY,
  seq {{i64}} NOT NULL,
  hash {{bytes}} NOT NULL,
  chains {{i64}} NOT NULL,
  seed_id {{uuid}} REFERENCES encryption_seed (id),
  mac {{bytes}} NOT NULL,
  sealed_at {{ts}} NOT NULL
){{table_opts}};
CREATE INDEX audit_chain_seed ON audit_chain (seed_id) WHERE seed_id IS NOT NULL;

-- What was answered to a POST with an Idempotency-Key. digest stands for caller, method, path and key; request for query and body; both
-- are hashes, and the answer is encrypted. owner is the attempt that may write the answer. Not tenant-owned: an admin has no tenant.
CREATE TABLE idempotency_key (
  digest {{bytes}} NOT NULL PRIMARY KEY,
  request {{bytes}} NOT NULL,
  owner {{uuid}} NOT NULL,
  claimed_until {{ts}} NOT NULL,
  expires_at {{ts}} NOT NULL,
  seed_id {{uuid}} REFERENCES encryption_seed (id),
  answer {{bytes}},
  CHECK ((answer IS NULL) = (seed_id IS NULL))
){{table_opts}};
CREATE INDEX idempotency_key_expiry ON idempotency_key (expires_at, digest);
CREATE INDEX idempotency_key_seed ON idempotency_key (seed_id) WHERE seed_id IS NOT NULL;
