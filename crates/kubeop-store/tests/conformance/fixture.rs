//! Rows to begin from.

use jiff::{SignedDuration, Timestamp};
use kubeop_core::authz::{Action, Actor, Role, Scope, decide, system_scope};
use kubeop_core::id::{AppId, ClusterId, ProjectId, TenantId};
use kubeop_core::name::Label;
use kubeop_store::cluster::{BootstrapState, Cluster, Sealed};
use kubeop_store::encryption_seed::{self, EncryptionSeed};
use kubeop_store::{Conn, Inserted, Store, TextMap, app::App, project::Project, tenant::Tenant};
use serde_json::json;
use uuid::Uuid;

pub(crate) const SEED: Uuid = Uuid::from_u128(0x5eed);

/// Seconds after the beginning of March 2026.
pub(crate) fn at(seconds: i64) -> Timestamp {
    "2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

/// Hours after the beginning of March 2026.
pub(crate) fn hour(hours: i64) -> Timestamp {
    at(hours * 3600)
}

pub(crate) fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> TextMap {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn all() -> Scope {
    system_scope()
}

pub(crate) fn as_tenant(id: TenantId) -> Scope {
    let actor = Actor { subject: "t".into(), role: Role::Tenant(id), token_id: None };
    decide(&actor, Action::ReadApps).unwrap()
}

pub(crate) fn as_project(id: ProjectId) -> Scope {
    let actor = Actor { subject: "p".into(), role: Role::Project(id), token_id: None };
    decide(&actor, Action::ReadApps).unwrap()
}

pub(crate) fn cluster(n: u128) -> Cluster {
    Cluster {
        id: ClusterId(Uuid::from_u128(0xc000 + n)),
        name: label(&format!("cluster-{n}")),
        labels: map(&[("env", "test")]),
        server: format!("https://cluster-{n}:6443"),
        cluster_uid: format!("uid-{n}"),
        public_server: None,
        auto_bootstrap: true,
        install_admission: false,
        with_mocks: true,
        version: 1,
        bootstrap_state: BootstrapState::Pending,
        bootstrap_message: None,
        created_at: at(i64::try_from(n).unwrap()),
        updated_at: at(i64::try_from(n).unwrap()),
        deleted_at: None,
    }
}

pub(crate) fn sealed() -> Sealed {
    Sealed { seed_id: SEED, bytes: vec![1, 2, 3] }
}

pub(crate) fn tenant(cluster: &Cluster, n: u128) -> Tenant {
    Tenant {
        id: TenantId(Uuid::from_u128(0x7000_0000 + n)),
        cluster_id: cluster.id,
        name: label(&format!("tenant-{n}")),
        quotas: map(&[("cpu", "8"), ("memory", "16Gi")]),
        labels: map(&[]),
        version: 1,
        created_at: at(i64::try_from(n).unwrap()),
        updated_at: at(i64::try_from(n).unwrap()),
        deleting_at: None,
        deleted_at: None,
    }
}

pub(crate) fn project(tenant: &Tenant, n: u128) -> Project {
    Project {
        tenant_id: tenant.id,
        id: ProjectId(Uuid::from_u128((tenant.id.0.as_u128() << 32) + 0x0009_0000 + n)),
        cluster_id: tenant.cluster_id,
        name: label(&format!("project-{n}")),
        namespace: label(&format!("kubeop-{}-project-{n}", tenant.name)),
        quotas: None,
        granted: map(&[("cpu", "2")]),
        pod_security: "baseline".to_owned(),
        labels: map(&[("team", "a")]),
        version: 1,
        created_at: at(i64::try_from(n).unwrap()),
        updated_at: at(i64::try_from(n).unwrap()),
        deleting_at: None,
    }
}

pub(crate) fn app(project: &Project, n: u128) -> App {
    App {
        tenant_id: project.tenant_id,
        id: AppId(Uuid::from_u128((project.id.0.as_u128() << 24) + 0xa0_0000 + n)),
        project_id: project.id,
        cluster_id: project.cluster_id,
        name: label(&format!("app-{n}")),
        spec: json!({"delivery": {"image": {"ref": "nginx", "replicas": u64::try_from(n).unwrap()}}}),
        labels: map(&[]),
        version: 1,
        created_at: at(i64::try_from(n).unwrap()),
        updated_at: at(i64::try_from(n).unwrap()),
        deleting_at: None,
    }
}

pub(crate) async fn add_seed(c: &mut Conn<'_>) {
    if encryption_seed::get(c, SEED).await.unwrap().is_none() {
        let seed = EncryptionSeed { id: SEED, master_key_id: "k1".into(), wrapped: vec![9; 60], created_at: at(0) };
        encryption_seed::insert(c, &seed).await.unwrap();
    }
}

/// Adds a cluster, `tenants` tenants on it, each with `projects` projects.
pub(crate) async fn add_tree(store: &Store, tenants: u128, projects: u128) -> (Cluster, Vec<Tenant>, Vec<Project>) {
    let mut tx = store.begin().await.unwrap();
    let c = &mut tx.conn();
    add_seed(c).await;
    let on = cluster(1);
    assert_eq!(kubeop_store::cluster::insert(c, &on, &sealed()).await.unwrap(), Inserted::Yes);
    let (mut some_tenants, mut some_projects) = (Vec::new(), Vec::new());
    for n in 1..=tenants {
        let one = tenant(&on, n);
        assert_eq!(kubeop_store::tenant::insert(c, &one).await.unwrap(), Inserted::Yes);
        for n in 1..=projects {
            let under = project(&one, n);
            assert_eq!(kubeop_store::project::insert(c, &under).await.unwrap(), Inserted::Yes);
            some_projects.push(under);
        }
        some_tenants.push(one);
    }
    tx.commit().await.unwrap();
    (on, some_tenants, some_projects)
}
