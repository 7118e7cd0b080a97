//! An app's row → its App resource.
//!
//! Invariant: a pure function of the rows.

use super::Marks;
use crate::state::Manager;
use kube::core::ObjectMeta;
use kubeop_core::Result;
use kubeop_core::authz::system_scope;
use kubeop_core::id::AppId;
use kubeop_crds::{App, AppSpec, labels};
use kubeop_store::app::App as Row;
use kubeop_store::cluster_object::{self, ClusterObject, Key, ObjectKind};
use kubeop_store::project::Project as ProjectRow;
use serde_json::Value;

/// Whether the operator has reported that the app's project has its namespace.
pub(in crate::sync) async fn namespace_is_ready(manager: &Manager, object: &ClusterObject) -> Result<bool> {
    let mut read = manager.store.read().await?;
    let Some(app) = kubeop_store::app::get(&mut read.conn(), system_scope(), AppId(object.entity_id)).await? else {
        return Ok(false);
    };
    let key = Key { cluster_id: object.cluster_id, kind: ObjectKind::Project, entity_id: app.project_id.0 };
    let project = cluster_object::get(&mut read.conn(), key).await?;
    let observed = project.and_then(|project| project.observed).unwrap_or_default();
    let conditions = observed.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(conditions.iter().any(|condition| {
        condition.get("type").and_then(Value::as_str) == Some("NamespaceReady")
            && condition.get("status").and_then(Value::as_str) == Some("True")
    }))
}

pub(super) fn render(project: &ProjectRow, row: &Row, marks: &Marks) -> Result<App> {
    let mut app = App::new(row.name.as_str(), AppSpec::parse_strict(&row.spec)?);
    app.metadata = ObjectMeta {
        name: Some(row.name.to_string()),
        namespace: Some(project.namespace.to_string()),
        labels: Some(marks.labels(
            &row.labels,
            [
                (labels::CLUSTER_ID, row.cluster_id.to_string()),
                (labels::TENANT_ID, row.tenant_id.to_string()),
                (labels::PROJECT_ID, row.project_id.to_string()),
                (labels::APP_ID, row.id.to_string()),
            ],
        )),
        annotations: Some(marks.annotations()),
        ..ObjectMeta::default()
    };
    Ok(app)
}
