//! Two tenants on one cluster, each with projects and apps.
//!
//! Invariant: made through the API but for the cluster, which would have to answer; it is at an address where nothing listens.

use crate::fixture::Fixture;
use kubeop_cluster::kubeconfig::{Intake, Kubeconfig};
use kubeop_core::authz::Role;
use kubeop_core::id::{ClusterId, KubeconfigId, ProjectId, TenantId};
use kubeop_core::name::Label;
use kubeop_store::cluster::{self, BootstrapState, Cluster};
use kubeop_store::issued_kubeconfig::{self, AccessRole, IssuedKubeconfig};
use kubeop_store::{Inserted, TextMap};
use serde_json::{Value, json};

const KUBECONFIG: &str = "apiVersion: v1
kind: Config
current-context: a
contexts: [{name: a, context: {cluster: a, user: a}}]
clusters: [{name: a, cluster: {server: 'https://127.0.0.1:1', insecure-skip-tls-verify: true}}]
users: [{name: a, user: {token: secret}}]
";

/// A tenant with two projects; the first has an app, an issued kubeconfig and an issued token.
pub(crate) struct Estate {
    pub(crate) tenant: String,
    pub(crate) project: String,
    pub(crate) sibling: String,
    pub(crate) app: String,
    pub(crate) kubeconfig: String,
    pub(crate) jti: String,
}

/// All there is.
pub(crate) struct World {
    pub(crate) cluster: String,
    pub(crate) mine: Estate,
    pub(crate) theirs: Estate,
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

/// Adds a cluster that does not answer.
pub(crate) async fn add_cluster(fixture: &Fixture, name: &str) -> Cluster {
    add_cluster_at(fixture, name, 1, BootstrapState::None).await
}

/// Adds a cluster at a port of this machine.
pub(crate) async fn add_cluster_at(fixture: &Fixture, name: &str, port: u16, state: BootstrapState) -> Cluster {
    let manager = &fixture.manager;
    let now = manager.clock.now();
    let row = Cluster {
        id: ClusterId(manager.ids.next()),
        name: Label::parse(name).unwrap(),
        labels: TextMap::from([("env".to_owned(), "test".to_owned()), ("team".to_owned(), "a".to_owned())]),
        server: "https://127.0.0.1:1".to_owned(),
        cluster_uid: format!("uid-{name}"),
        public_server: None,
        auto_bootstrap: false,
        install_admission: false,
        with_mocks: false,
        version: 1,
        bootstrap_state: state,
        bootstrap_message: None,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    let text = KUBECONFIG.replace("127.0.0.1:1", &format!("127.0.0.1:{port}"));
    let kubeconfig = Kubeconfig::parse(&text, Intake { insecure: true }).unwrap();
    let mut tx = manager.store.begin().await.unwrap();
    let sealed = manager.clusters.seal(&mut tx.conn(), row.id, &kubeconfig).await.unwrap();
    assert_eq!(cluster::insert(&mut tx.conn(), &row, &sealed).await.unwrap(), Inserted::Yes);
    cluster::set_bootstrap(&mut tx.conn(), row.id, state, None).await.unwrap();
    tx.commit().await.unwrap();
    row
}

/// Adds a tenant with what belongs to it.
async fn add_estate(fixture: &Fixture, cluster: &str, name: &str) -> Estate {
    let tenant = id(&fixture.admin("POST", "/v1/tenants", &json!({"name": name, "clusterID": cluster}), 201).await);
    let project = json!({"tenantID": tenant, "name": "web"});
    let project = id(&fixture.admin("POST", "/v1/projects", &project, 201).await);
    let sibling = json!({"tenantID": tenant, "name": "batch"});
    let sibling = id(&fixture.admin("POST", "/v1/projects", &sibling, 201).await);
    let app = json!({"projectID": project, "name": "site", "image": "nginx:1", "host": format!("{name}.example.com")});
    let app = id(&fixture.admin("POST", "/v1/apps", &app, 201).await);
    let token = fixture.admin("POST", "/v1/jwt/project", &json!({"ProjectID": project}), 200).await;
    let kubeconfig = add_kubeconfig(fixture, cluster, &tenant, &project).await;
    Estate { tenant, project, sibling, app, kubeconfig, jti: token["jti"].as_str().unwrap().to_owned() }
}

/// Records a kubeconfig as if it had been issued.
pub(crate) async fn add_kubeconfig(fixture: &Fixture, cluster: &str, tenant: &str, project: &str) -> String {
    let now = fixture.manager.clock.now();
    let row = IssuedKubeconfig {
        tenant_id: TenantId::parse(tenant).unwrap(),
        id: KubeconfigId(fixture.manager.ids.next()),
        project_id: ProjectId::parse(project).unwrap(),
        cluster_id: ClusterId::parse(cluster).unwrap(),
        role: AccessRole::Developer,
        secret_name: "s".to_owned(),
        secret_uid: "u".to_owned(),
        service_account: "a".to_owned(),
        subject: "test".to_owned(),
        created_at: now,
        expires_at: now + jiff::SignedDuration::from_hours(1),
        revoked_at: None,
    };
    let mut tx = fixture.manager.store.begin().await.unwrap();
    issued_kubeconfig::insert(&mut tx.conn(), &row).await.unwrap();
    tx.commit().await.unwrap();
    row.id.to_string()
}

impl World {
    /// Makes it.
    pub(crate) async fn new(fixture: &Fixture) -> Self {
        let cluster = add_cluster(fixture, "one").await.id.to_string();
        let mine = add_estate(fixture, &cluster, "mine").await;
        let theirs = add_estate(fixture, &cluster, "theirs").await;
        Self { cluster, mine, theirs }
    }

    /// The role of my tenant.
    pub(crate) fn tenant(&self) -> Role {
        Role::Tenant(TenantId::parse(&self.mine.tenant).unwrap())
    }

    /// The role of my project.
    pub(crate) fn project(&self) -> Role {
        Role::Project(ProjectId::parse(&self.mine.project).unwrap())
    }
}
