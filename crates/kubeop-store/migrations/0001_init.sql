-- The first schema. One text for both databases: the tokens in braces are replaced per dialect (src/migrations.rs).
-- Rules: every table STRICT; tenant_id is part of every tenant-owned primary key and unique index, so that PostgreSQL -> Citus is a
-- distribution command; an id is findable alone by a plain index; a page is read by an index that ends in (created_at, id).

CREATE TABLE meta (
  key TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
){{table_opts_norowid}};

CREATE TABLE encryption_seed (
  id {{uuid}} NOT NULL PRIMARY KEY,
  master_key_id TEXT NOT NULL,
  wrapped {{bytes}} NOT NULL,
  created_at {{ts}} NOT NULL
){{table_opts}};

CREATE TABLE cluster (
  id {{uuid}} NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  labels {{json}} NOT NULL,
  server TEXT NOT NULL,
  cluster_uid TEXT NOT NULL,
  public_server TEXT,
  kubeconfig {{bytes}},
  seed_id {{uuid}} REFERENCES encryption_seed (id),
  auto_bootstrap {{bool}} NOT NULL,
  install_admission {{bool}} NOT NULL,
  with_mocks {{bool}} NOT NULL,
  version {{i64}} NOT NULL,
  bootstrap_state TEXT NOT NULL CHECK (bootstrap_state IN ('none', 'pending', 'done', 'failed', 'removing')),
  bootstrap_message TEXT,
  unreachable TEXT,
  created_at {{ts}} NOT NULL,
  updated_at {{ts}} NOT NULL,
  deleted_at {{ts}},
  CHECK ((kubeconfig IS NULL) = (seed_id IS NULL))
){{table_opts}};
CREATE UNIQUE INDEX cluster_name ON cluster (name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX cluster_cluster_uid ON cluster (cluster_uid) WHERE deleted_at IS NULL;
CREATE INDEX cluster_page ON cluster (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX cluster_seed ON cluster (seed_id, id) WHERE seed_id IS NOT NULL;

CREATE TABLE tenant (
  id {{uuid}} NOT NULL PRIMARY KEY,
  cluster_id {{uuid}} NOT NULL REFERENCES cluster (id),
  name TEXT NOT NULL,
  quotas {{json}} NOT NULL,
  labels {{json}} NOT NULL,
  version {{i64}} NOT NULL,
  created_at {{ts}} NOT NULL,
  updated_at {{ts}} NOT NULL,
  deleting_at {{ts}},
  deleted_at {{ts}}
){{table_opts}};
CREATE UNIQUE INDEX tenant_name ON tenant (name) WHERE deleted_at IS NULL;
CREATE INDEX tenant_page ON tenant (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX tenant_cluster_page ON tenant (cluster_id, created_at, id) WHERE deleted_at IS NULL;

CREATE TABLE project (
  tenant_id {{uuid}} NOT NULL REFERENCES tenant (id),
  id {{uuid}} NOT NULL,
  cluster_id {{uuid}} NOT NULL REFERENCES cluster (id),
  name TEXT NOT NULL,
  namespace TEXT NOT NULL,
  quotas {{json}},
  granted {{json}} NOT NULL,
  pod_security TEXT NOT NULL,
  labels {{json}} NOT NULL,
  version {{i64}} NOT NULL,
  created_at {{ts}} NOT NULL,
  updated_at {{ts}} NOT NULL,
  deleting_at {{ts}},
  PRIMARY KEY (tenant_id, id)
){{table_opts}};
CREATE UNIQUE INDEX project_name ON project (tenant_id, name);
CREATE INDEX project_id ON project (id);
CREATE INDEX project_page ON project (created_at, id);
CREATE INDEX project_tenant_page ON project (tenant_id, created_at, id);
CREATE INDEX project_cluster_page ON project (cluster_id, created_at, id);
CREATE INDEX project_name_page ON project (name, created_at, id);

-- Who holds a namespace of a cluster. Not tenant-owned: uniqueness spans tenants.
CREATE TABLE namespace_claim (
  cluster_id {{uuid}} NOT NULL REFERENCES cluster (id),
  namespace TEXT NOT NULL,
  tenant_id {{uuid}} NOT NULL,
  project_id {{uuid}} NOT NULL,
  PRIMARY KEY (cluster_id, namespace)
){{table_opts}};
CREATE INDEX namespace_claim_project ON namespace_claim (project_id);

CREATE TABLE app (
  tenant_id {{uuid}} NOT NULL,
  id {{uuid}} NOT NULL,
  project_id {{uuid}} NOT NULL,
  cluster_id {{uuid}} NOT NULL REFERENCES cluster (id),
  name TEXT NOT NULL,
  spec {{json}} NOT NULL,
  labels {{json}} NOT NULL,
  version {{i64}} NOT NULL,
  created_at {{ts}} NOT NULL,
  updated_at {{ts}} NOT NULL,
  deleting_at {{ts}},
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, project_id) REFERENCES project (tenant_id, id)
){{table_opts}};
CREATE UNIQUE INDEX app_name ON app (project_id, name, tenant_id);
CREATE INDEX app_id ON app (id);
CREATE INDEX app_page ON app (created_at, id);
CREATE INDEX app_tenant_page ON app (tenant_id, created_at, id);
CREATE INDEX app_project_page ON app (project_id, created_at, id);
CREATE INDEX app_cluster_page ON app (cluster_id, created_at, id);
CREATE INDEX app_name_page ON app (name, created_at, id);
CREATE INDEX app_tenant_name_page ON app (tenant_id, name, created_at, id);

-- Who holds a host name, over all clusters. Not tenant-owned: uniqueness spans tenants.
CREATE TABLE host_claim (
  host TEXT NOT NULL PRIMARY KEY,
  tenant_id {{uuid}} NOT NULL,
  project_id {{uuid}} NOT NULL,
  app_id {{uuid}} NOT NULL
){{table_opts}};
CREATE INDEX host_claim_app ON host_claim (app_id);

CREATE TABLE platform_policy (
  id {{i64}} NOT NULL PRIMARY KEY CHECK (id = 1),
  policy {{json}} NOT NULL,
  version {{i64}} NOT NULL,
  updated_at {{ts}} NOT NULL
){{table_opts}};

-- Desired state of the custom resources the manager owns: what is wanted, what was applied, when to try next.
CREATE TABLE cluster_object (
  cluster_id {{uuid}} NOT NULL REFERENCES cluster (id),
  kind TEXT NOT NULL,
  entity_id {{uuid}} NOT NULL,
  name TEXT NOT NULL,
  namespace TEXT,
  wanted {{i64}} NOT NULL,
  applied {{i64}} NOT NULL,
  deleted {{bool}} NOT NULL,
  attempted {{bool}} NOT NULL,
  attempts {{i64}} NOT NULL,
  next_attempt_at {{ts}} NOT NULL,
  last_error TEXT,
  uid TEXT,
  changed_at {{ts}} NOT NULL,
  PRIMARY KEY (cluster_id, kind, entity_id)
){{table_opts}};
CREATE INDEX cluster_object_due ON cluster_object (cluster_id, next_attempt_at, kind, entity_id) WHERE wanted > applied OR deleted;
CREATE INDEX cluster_object_entity ON cluster_object (entity_id, kind);

-- What the cluster shows of them. Apart, so that mirroring status never waits for a request that marks a row, nor the other way round.
CREATE TABLE cluster_observed (
  cluster_id {{uuid}} NOT NULL,
  kind TEXT NOT NULL,
  entity_id {{uuid}} NOT NULL,
  status {{json}} NOT NULL,
  uid TEXT NOT NULL,
  observed_at {{ts}} NOT NULL,
  PRIMARY KEY (cluster_id, kind, entity_id),
  FOREIGN KEY (cluster_id, kind, entity_id) REFERENCES cluster_object (cluster_id, kind, entity_id) ON DELETE CASCADE
){{table_opts}};

CREATE TABLE cluster_lease (
  cluster_id {{uuid}} NOT NULL PRIMARY KEY REFERENCES cluster (id),
  holder {{uuid}} NOT NULL,
  counter {{i64}} NOT NULL
){{table_opts}};
CREATE INDEX cluster_lease_holder ON cluster_lease (holder);

CREATE TABLE issued_kubeconfig (
  tenant_id {{uuid}} NOT NULL,
  id {{uuid}} NOT NULL,
  project_id {{uuid}} NOT NULL,
  cluster_id {{uuid}} NOT NULL REFERENCES cluster (id),
  role TEXT NOT NULL,
  secret_name TEXT NOT NULL,
  secret_uid TEXT NOT NULL,
  service_account TEXT NOT NULL,
  subject TEXT NOT NULL,
  created_at {{ts}} NOT NULL,
  expires_at {{ts}} NOT NULL,
  revoked_at {{ts}},
  collect_at {{ts}} NOT NULL,
  PRIMARY KEY (tenant_id, id)
){{table_opts}};
CREATE INDEX issued_kubeconfig_id ON issued_kubeconfig (id);
CREATE INDEX issued_kubeconfig_page ON issued_kubeconfig (created_at, id);
CREATE INDEX issued_kubeconfig_tenant_page ON issued_kubeconfig (tenant_id, created_at, id);
CREATE INDEX issued_kubeconfig_project_page ON issued_kubeconfig (project_id, created_at, id);
CREATE INDEX issued_kubeconfig_collect ON issued_kubeconfig (collect_at, id);

-- Not tenant-owned: an admin's token has no tenant, and a request is checked by jti alone.
CREATE TABLE issued_token (
  jti TEXT NOT NULL PRIMARY KEY,
  role TEXT NOT NULL,
  tenant_id {{uuid}},
  project_id {{uuid}},
  subject TEXT NOT NULL,
  created_at {{ts}} NOT NULL,
  expires_at {{ts}} NOT NULL,
  revoked_at {{ts}}
){{table_opts}};
CREATE INDEX issued_token_revoked ON issued_token (expires_at, jti) WHERE revoked_at IS NOT NULL;
CREATE INDEX issued_token_expiry ON issued_token (expires_at);

-- Usage, one row an hour. Time first: an hour's batch then touches few pages. project_id is nil and source '' where a sample names none.
-- revision counts how often the row was given other figures (1 = as first sent).
CREATE TABLE usage_hour (
  bucket {{ts}} NOT NULL,
  tenant_id {{uuid}} NOT NULL,
  project_id {{uuid}} NOT NULL,
  source TEXT NOT NULL,
  cpu_milli {{i64}} NOT NULL,
  mem_mib {{i64}} NOT NULL,
  revision {{i64}} NOT NULL,
  updated_at {{ts}} NOT NULL,
  PRIMARY KEY (bucket, tenant_id, project_id, source)
){{table_opts_norowid}};

CREATE TABLE price (
  meter TEXT NOT NULL,
  effective_from {{ts}} NOT NULL,
  rate {{decimal}} NOT NULL,
  currency TEXT NOT NULL,
  PRIMARY KEY (meter, effective_from)
){{table_opts}};

-- The nil tenant is the platform: each tenant's records, and the platform's, form one sequence.
CREATE TABLE audit_record (
  tenant_id {{uuid}} NOT NULL,
  id {{uuid}} NOT NULL,
  at {{ts}} NOT NULL,
  subject TEXT NOT NULL,
  role TEXT NOT NULL,
  action TEXT NOT NULL,
  object_kind TEXT NOT NULL,
  object_id TEXT NOT NULL,
  outcome TEXT NOT NULL,
  request_id TEXT NOT NULL,
  before_digest TEXT,
  after_digest TEXT,
  detail TEXT NOT NULL,
  PRIMARY KEY (tenant_id, id)
){{table_opts}};
CREATE INDEX audit_record_page ON audit_record (at, id);
CREATE INDEX audit_record_tenant_page ON audit_record (tenant_id, at, id);
CREATE INDEX audit_record_object_page ON audit_record (object_id, at, id);
