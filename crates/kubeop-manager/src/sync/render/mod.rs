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
use kubeop_store::cluster_object::{ClusterObject, ObjectKind, State};
use kubeop_store::{app as app_rows, project as project_rows, tenant as tenant_rows};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

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
    let _turn = manager.turns.take().await?;
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

/// The resources of many rows of one kind, in a few queries; those whose entities are gone or going are left out, and those that cannot be rendered,
/// which the log names.
pub(super) async fn many(manager: &Manager, rows: &[State]) -> Result<HashMap<(ObjectKind, Uuid), DynamicObject>> {
    let Some(kind) = rows.first().map(|row| row.kind) else { return Ok(HashMap::new()) };
    let scope = system_scope();
    let ids: Vec<Uuid> = rows.iter().map(|row| row.entity_id).collect();
    let turn = manager.turns.take().await?;
    let mut read = manager.store.read().await?;
    let mut conn = read.conn();
    let (mut tenants, mut projects, mut apps) = (HashMap::new(), HashMap::new(), HashMap::new());
    if kind == ObjectKind::App {
        let ids: Vec<AppId> = ids.iter().copied().map(AppId).collect();
        apps.extend(app_rows::get_many(&mut conn, scope, &ids).await?.into_iter().map(|row| (row.id.0, row)));
    }
    if matches!(kind, ObjectKind::App | ObjectKind::Project) {
        let parents =
            || apps.values().map(|row: &app_rows::App| row.project_id).collect::<BTreeSet<_>>().into_iter().collect();
        let ids: Vec<ProjectId> =
            if kind == ObjectKind::App { parents() } else { ids.iter().copied().map(ProjectId).collect() };
        projects.extend(project_rows::get_many(&mut conn, scope, &ids).await?.into_iter().map(|row| (row.id, row)));
    }
    if matches!(kind, ObjectKind::Project | ObjectKind::Tenant) {
        let parents = || {
            projects
                .values()
                .map(|row: &project_rows::Project| row.tenant_id)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect()
        };
        let ids: Vec<TenantId> =
            if kind == ObjectKind::Project { parents() } else { ids.iter().copied().map(TenantId).collect() };
        tenants.extend(tenant_rows::get_many(&mut conn, scope, &ids).await?.into_iter().map(|row| (row.id, row)));
    }
    drop((read, turn));
    let mut rendered = HashMap::new();
    for row in rows {
        let marks = Marks { instance: manager.instance, wanted: row.wanted };
        let id = row.entity_id;
        let object = match kind {
            ObjectKind::Policy => None,
            ObjectKind::Tenant => tenants.get(&TenantId(id)).map(|row| dynamic(&tenant::render(row, &marks))),
            ObjectKind::Project => projects.get(&ProjectId(id)).and_then(|row| {
                let tenant = tenants.get(&row.tenant_id)?;
                Some(project::render(tenant, row, &marks).and_then(|project| dynamic(&project)))
            }),
            ObjectKind::App => apps.get(&id).and_then(|row| {
                let project = projects.get(&row.project_id)?;
                Some(app::render(project, row, &marks).and_then(|app| dynamic(&app)))
            }),
        };
        match object {
            Some(Ok(object)) => drop(rendered.insert((kind, id), object)),
            Some(Err(error)) => {
                tracing::warn!(kind = kind.as_str(), %id, error = %error.chain(), "a row cannot be rendered, and is not compared");
            }
            None => {}
        }
    }
    Ok(rendered)
}

fn dynamic(resource: &impl serde::Serialize) -> Result<DynamicObject> {
    serde_json::to_value(resource).and_then(serde_json::from_value).map_err(Error::internal)
}
