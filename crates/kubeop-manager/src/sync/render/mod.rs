//! From rows to custom resources.
//!
//! Invariant: rendered from the rows as they are now; what is gone or going from the database is not rendered.

pub(super) mod app;
pub mod project;
pub mod tenant;

use crate::state::Manager;
use kube::core::DynamicObject;
use kubeop_core::authz::system_scope;
use kubeop_core::id::{AppId, InstanceId, ProjectId, TenantId};
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_store::cluster_object::{ClusterObject, ObjectKind};
use std::collections::BTreeMap;

/// What every resource of the manager carries.
struct Marks {
    instance: InstanceId,
    wanted: i64,
}

impl Marks {
    fn annotations(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(labels::WANTED.to_owned(), self.wanted.to_string())])
    }

    /// The caller's labels, and over them ours.
    fn labels<const N: usize>(
        &self,
        own: &BTreeMap<String, String>,
        ids: [(&str, String); N],
    ) -> BTreeMap<String, String> {
        let mut all = own.clone();
        all.extend(ids.map(|(key, value)| (key.to_owned(), value)));
        all.insert(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned());
        all.insert(labels::INSTANCE.to_owned(), self.instance.to_string());
        all
    }
}

/// The resource of a desired-state row; `None` if its entity is gone or going.
pub async fn object(manager: &Manager, row: &ClusterObject) -> Result<Option<DynamicObject>> {
    let marks = Marks { instance: manager.instance, wanted: row.wanted };
    let scope = system_scope();
    let mut read = manager.store.read().await?;
    let mut conn = read.conn();
    let value = match row.kind {
        ObjectKind::Policy => return Err(Error::internal("the policy is no custom resource")),
        ObjectKind::Tenant => {
            let Some(tenant) = kubeop_store::tenant::get(&mut conn, scope, TenantId(row.entity_id)).await? else {
                return Ok(None);
            };
            serde_json::to_value(tenant::render(&tenant, &marks))
        }
        ObjectKind::Project => {
            let Some(project) = kubeop_store::project::get(&mut conn, scope, ProjectId(row.entity_id)).await? else {
                return Ok(None);
            };
            let Some(tenant) = kubeop_store::tenant::get(&mut conn, scope, project.tenant_id).await? else {
                return Ok(None);
            };
            serde_json::to_value(project::render(&tenant, &project, &marks)?)
        }
        ObjectKind::App => {
            let Some(app) = kubeop_store::app::get(&mut conn, scope, AppId(row.entity_id)).await? else {
                return Ok(None);
            };
            let Some(project) = kubeop_store::project::get(&mut conn, scope, app.project_id).await? else {
                return Ok(None);
            };
            serde_json::to_value(app::render(&project, &app, &marks)?)
        }
    };
    value.and_then(serde_json::from_value).map(Some).map_err(Error::internal)
}
