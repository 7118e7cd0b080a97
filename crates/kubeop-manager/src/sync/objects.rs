//! The desired-state rows: which object of a cluster follows from which entity.
//!
//! Invariant: whoever changes an entity marks its row in the same transaction.

use jiff::Timestamp;
use kubeop_core::Result;
use kubeop_core::id::ClusterId;
use kubeop_core::name::{SYSTEM_NAMESPACE, project_resource_name};
use kubeop_store::Conn;
use kubeop_store::app::App;
use kubeop_store::cluster_object::{self, ClusterObject, Key, Mark, ObjectKind};
use kubeop_store::project::Project;
use kubeop_store::tenant::Tenant;
use std::collections::HashMap;
use uuid::Uuid;

/// The row of a cluster's policy.
pub fn policy_key(cluster_id: ClusterId) -> Key {
    Key { cluster_id, kind: ObjectKind::Policy, entity_id: cluster_id.0 }
}

/// The row of a tenant.
pub fn tenant_key(row: &Tenant) -> Key {
    Key { cluster_id: row.cluster_id, kind: ObjectKind::Tenant, entity_id: row.id.0 }
}

/// The row of a project.
pub fn project_key(row: &Project) -> Key {
    Key { cluster_id: row.cluster_id, kind: ObjectKind::Project, entity_id: row.id.0 }
}

/// The row of an app.
pub fn app_key(row: &App) -> Key {
    Key { cluster_id: row.cluster_id, kind: ObjectKind::App, entity_id: row.id.0 }
}

async fn mark(conn: &mut Conn<'_>, key: Key, name: String, namespace: Option<String>, now: Timestamp) -> Result<()> {
    cluster_object::mark(conn, &Mark { key, name, namespace }, now).await?;
    Ok(())
}

/// The policy changed, or a cluster is new.
pub async fn mark_policy(conn: &mut Conn<'_>, cluster: ClusterId, now: Timestamp) -> Result<()> {
    mark(conn, policy_key(cluster), "kubeop-policy".to_owned(), Some(SYSTEM_NAMESPACE.to_owned()), now).await
}

/// A tenant changed.
pub async fn mark_tenant(conn: &mut Conn<'_>, row: &Tenant, now: Timestamp) -> Result<()> {
    mark(conn, tenant_key(row), row.name.to_string(), None, now).await
}

/// A project of this tenant changed.
pub async fn mark_project(conn: &mut Conn<'_>, tenant: &Tenant, row: &Project, now: Timestamp) -> Result<()> {
    mark(conn, project_key(row), project_resource_name(&tenant.name, &row.name), None, now).await
}

/// An app of this project changed.
pub async fn mark_app(conn: &mut Conn<'_>, project: &Project, row: &App, now: Timestamp) -> Result<()> {
    mark(conn, app_key(row), row.name.to_string(), Some(project.namespace.to_string()), now).await
}

/// The rows of entities of one kind, by entity, in one query.
pub async fn of_entities(conn: &mut Conn<'_>, kind: ObjectKind, ids: &[Uuid]) -> Result<HashMap<Uuid, ClusterObject>> {
    let rows = cluster_object::list_for_entities(conn, kind, ids).await?;
    Ok(rows.into_iter().map(|row| (row.entity_id, row)).collect())
}
