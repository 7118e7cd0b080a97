-- Every filter of a list has its index, credentials are collected by cluster, tokens know who issued them, and of a subject's events only the
-- first is looked at. Tokens and rules as in 0001.

CREATE INDEX audit_record_subject_page ON audit_record (subject, at, id);
CREATE INDEX audit_record_action_page ON audit_record (action, at, id);
CREATE INDEX event_delivery_dead_hook ON event_delivery (hook, dead_at, id) WHERE dead_at IS NOT NULL;
CREATE INDEX event_delivery_dead_type ON event_delivery (event_type, dead_at, id) WHERE dead_at IS NOT NULL;
CREATE INDEX event_delivery_dead_tenant ON event_delivery (tenant_id, dead_at, id) WHERE dead_at IS NOT NULL;
CREATE INDEX project_cluster_name_page ON project (cluster_id, name, created_at, id);
CREATE INDEX app_cluster_name_page ON app (cluster_id, name, created_at, id);
CREATE INDEX issued_kubeconfig_cluster_page ON issued_kubeconfig (cluster_id, created_at, id);

-- What is due on a cluster: what was revoked, and what expired.
DROP INDEX issued_kubeconfig_collect;
CREATE INDEX issued_kubeconfig_revoked ON issued_kubeconfig (cluster_id, collect_at, id) WHERE revoked_at IS NOT NULL;
CREATE INDEX issued_kubeconfig_expired ON issued_kubeconfig (cluster_id, collect_at, id) WHERE revoked_at IS NULL;

-- The token that issued it; NULL: none, or one without a jti.
ALTER TABLE issued_token ADD COLUMN parent_jti TEXT;
CREATE INDEX issued_token_parent ON issued_token (parent_jti) WHERE parent_jti IS NOT NULL;

-- Whether a delivery surely waits for an earlier one of its subject. FALSE says nothing: who claims looks himself.
ALTER TABLE event_delivery ADD COLUMN waits {{bool}} NOT NULL DEFAULT FALSE;
UPDATE event_delivery SET waits = TRUE WHERE dead_at IS NULL AND EXISTS (SELECT 1 FROM event_delivery AS e
  WHERE e.hook = event_delivery.hook AND e.subject = event_delivery.subject AND e.dead_at IS NULL AND e.seq < event_delivery.seq);
DROP INDEX event_delivery_due;
CREATE INDEX event_delivery_due ON event_delivery (hook, next_at, seq) WHERE dead_at IS NULL AND NOT waits;
CREATE INDEX event_delivery_waiting ON event_delivery (hook, subject, seq) WHERE dead_at IS NULL AND waits;
