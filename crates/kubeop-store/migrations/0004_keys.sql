-- Master keys are rotated online: what a seed seals is found in order, and the newest seed at once. Tokens and rules as in 0001.

DROP INDEX idempotency_key_seed;
CREATE INDEX idempotency_key_seed ON idempotency_key (seed_id, digest) WHERE seed_id IS NOT NULL;
DROP INDEX audit_chain_seed;
CREATE INDEX audit_chain_seed ON audit_chain (seed_id, tenant_id) WHERE seed_id IS NOT NULL;
CREATE INDEX encryption_seed_newest ON encryption_seed (created_at, id);
