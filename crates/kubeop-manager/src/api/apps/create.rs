//! `POST /v1/apps`.
//!
//! Invariant: the project's row is held while the app is added, so that it is not deleted under it.

use super::{KIND, answer, hosts, spec};
use crate::api::change::unchanged_id;
use crate::api::policy;
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::WriteApps;
use crate::events;
use crate::http::answer::Created;
use crate::http::body::{APP_LIMIT, Body};
use crate::http::error::ApiResult;
use crate::http::params::{ItemQueryExt, Query};
use crate::sync::{objects, reach, settle};
use kubeop_api::app::{App as Answer, AppInput};
use kubeop_api::resource::{ItemQuery, check_labels};
use kubeop_cluster::apply::{self, Kind, Target};
use kubeop_core::id::{AppId, ProjectId};
use kubeop_core::name::Label;
use kubeop_core::{Error, Result};
use kubeop_store::Conn;
use kubeop_store::app::{self, App};
use kubeop_store::cluster;
use kubeop_store::project::{self, Project};
use std::time::Duration;

/// How long the cluster may take to tell whether the name is taken there.
const LOOK: Duration = Duration::from_secs(2);

/// Apps a project may have.
const MOST: i64 = 500;

/// Creates an app.
pub async fn handle(
    caller: Caller<WriteApps>,
    Query(query): Query<ItemQuery>,
    Body(input): Body<AppInput, APP_LIMIT>,
) -> ApiResult<Created<Answer>> {
    let manager = &caller.manager;
    let wait = query.wait()?;
    let required = |field: &str| Error::invalid(format!("{field}: is required"));
    let name = Label::parse(input.name.as_deref().ok_or_else(|| required("name"))?).map_err(|e| e.at("name"))?;
    if name.as_str().starts_with("kubeop-") {
        return Err(
            Error::invalid(format!("name: {:?} is not allowed: kubeop-* is the platform's", name.as_str())).into()
        );
    }
    let project_id = input.project_id.as_deref().ok_or_else(|| required("project_id"))?;
    let project_id = ProjectId::parse(project_id).map_err(|e| e.at("project_id"))?;
    let labels = check_labels(input.labels.clone().unwrap_or_default())?;
    let now = manager.clock.now();

    refuse_foreign_app(&caller, project_id, &name).await?;
    let mut tx = caller.change().await?;
    let project = project::lock(&mut tx.conn(), caller.scope, project_id)
        .await?
        .ok_or_else(|| Error::invalid(format!("project_id: there is no project {project_id}")))?;
    check_parents(&input, &project)?;
    refuse_taken_name(&caller, &mut tx.conn(), &project, &name).await?;
    refuse_too_many(&mut tx.conn(), &project).await?;
    let policy = policy::current(&mut tx.conn()).await?.policy;
    let accepted = spec::accept(&input, &project, &policy)?;
    let row = App {
        tenant_id: project.tenant_id,
        id: AppId(manager.ids.next()),
        project_id,
        cluster_id: project.cluster_id,
        name,
        spec: accepted.spec,
        labels,
        version: 1,
        created_at: now,
        updated_at: now,
        deleting_at: None,
    };
    app::insert(&mut tx.conn(), &row)
        .await?
        .or_conflict(|_| format!("an app named {:?} exists already", row.name.as_str()))?;
    hosts::claim(&mut tx.conn(), &row, &accepted.hosts).await?;
    objects::mark_app(&mut tx.conn(), &project, &row, now).await?;
    let deed = Deed {
        verb: "create",
        kind: KIND,
        id: row.id.to_string(),
        tenant: Some(row.tenant_id),
        after: Some(digest::of(&row)?),
        about: events::of_app(&row),
        ..Deed::default()
    };
    let location = format!("/v1/apps/{}", row.id);
    let item = answer(&mut tx.conn(), row.clone()).await?;
    let mut created = Created { item, version: row.version, location };
    caller.commit_answered(tx, deed, &created).await?;
    manager.wake.cluster(row.cluster_id);
    if !wait.is_zero() {
        let looking = async {
            settle::wait(manager, objects::app_key(&row), wait).await?;
            answer(&mut caller.read().await?.conn(), row).await
        };
        created.item = settle::or_committed(looking.await, created.item);
    }
    Ok(created)
}

fn check_parents(input: &AppInput, project: &Project) -> Result<()> {
    if project.deleting_at.is_some() {
        return Err(Error::conflict(format!("project {:?} is being deleted", project.name.as_str())));
    }
    check_namespace(input, project)?;
    unchanged_id("tenant_id", input.tenant_id.as_deref(), project.tenant_id.0)?;
    unchanged_id("cluster_id", input.cluster_id.as_deref(), project.cluster_id.0)
}

/// A namespace that is given must be the project's.
pub fn check_namespace(input: &AppInput, project: &Project) -> Result<()> {
    match input.namespace.as_deref() {
        Some(namespace) if namespace != project.namespace.as_str() => Err(Error::invalid(format!(
            "namespace mismatch: {:?} is given, the project's is {:?}",
            kubeop_core::id::shorten(namespace),
            project.namespace.as_str()
        ))),
        _ => Ok(()),
    }
}

async fn refuse_too_many(conn: &mut Conn<'_>, project: &Project) -> Result<()> {
    let count = app::count_in_project(conn, project.tenant_id, project.id).await?;
    if count < MOST {
        return Ok(());
    }
    Err(Error::conflict(format!("project {:?} has {count} apps: at most {MOST} are allowed", project.name.as_str())))
}

/// Refuses a name that an App of the tenant's own has on the cluster. Early advice, as far as the cluster answers: the sync decides, by POST.
async fn refuse_foreign_app(caller: &Caller<WriteApps>, project: ProjectId, name: &Label) -> Result<()> {
    let manager = &caller.manager;
    let mut read = caller.read().await?;
    let Some(project) = project::get(&mut read.conn(), caller.scope, project).await? else { return Ok(()) };
    let known = reach::of_clusters(&mut read.conn(), &[project.cluster_id]).await?.of(project.cluster_id);
    let home = cluster::get(&mut read.conn(), project.cluster_id).await?;
    drop(read);
    let Some(home) = home.filter(|_| known.bootstrapped && known.reachable) else { return Ok(()) };
    let target = Target { kind: Kind::App, namespace: Some(project.namespace.to_string()), name: name.to_string() };
    let looking = async {
        let client = manager.clusters.get(&manager.store, &home).await?.manager().await?;
        apply::live(&client, &target).await
    };
    match tokio::time::timeout(LOOK, looking).await {
        Ok(Ok(Some(live))) if !live.managed => Err(Error::conflict(format!(
            "an App named {:?} that was not made here is in namespace {:?} of the cluster: choose another name, or delete it there",
            name.as_str(),
            project.namespace.as_str()
        ))),
        _ => Ok(()),
    }
}

async fn refuse_taken_name(
    caller: &Caller<WriteApps>,
    conn: &mut Conn<'_>,
    project: &Project,
    name: &Label,
) -> Result<()> {
    let Some(existing) = app::by_name(conn, caller.scope, project.id, name.as_str()).await? else { return Ok(()) };
    let name = name.as_str();
    Err(Error::conflict(if existing.deleting_at.is_some() {
        format!("app {name:?} is being deleted; its name is free when that is done")
    } else {
        format!("an app named {name:?} exists already in project {:?}", project.name.as_str())
    }))
}
