//! `POST /v1/projects`.
//!
//! Invariant: checks and write are one transaction under the tenant's lock: concurrent creates never oversell.

use super::{KIND, answer, pod_security, quota};
use crate::api::change::unchanged_id;
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::WriteProjects;
use crate::events;
use crate::http::answer::Created;
use crate::http::body::Body;
use crate::http::error::ApiResult;
use crate::http::params::{ItemQueryExt, Query};
use crate::sync::{objects, settle};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kubeop_api::project::{Project as Answer, ProjectInput};
use kubeop_api::resource::{ItemQuery, check_labels};
use kubeop_cluster::error::Doing;
use kubeop_core::authz::Role;
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::name::{Label, check_project_namespace, default_namespaces, tenant_namespace_prefix};
use kubeop_core::{Error, Result};
use kubeop_store::cluster::{self, BootstrapState};
use kubeop_store::namespace_claim::{self, Holder};
use kubeop_store::project::{self, Project};
use kubeop_store::tenant::{self, Tenant};
use kubeop_store::{Conn, Inserted};
use std::time::Duration;

/// How long the cluster may take to tell whether a namespace exists.
const LOOK: Duration = Duration::from_secs(3);
/// Projects a tenant may have.
const MOST: i64 = 1000;

/// Creates a project.
pub async fn handle(
    caller: Caller<WriteProjects>,
    Query(query): Query<ItemQuery>,
    Body(input): Body<ProjectInput>,
) -> ApiResult<Created<Answer>> {
    let manager = &caller.manager;
    let wait = query.wait()?;
    let required = |field: &str| Error::invalid(format!("{field}: is required"));
    let name = Label::parse(input.name.as_deref().ok_or_else(|| required("name"))?).map_err(|e| e.at("name"))?;
    let tenant_id = input.tenant_id.as_deref().ok_or_else(|| required("tenant_id"))?;
    let tenant_id = TenantId::parse(tenant_id).map_err(|e| e.at("tenant_id"))?;
    let wish = input.namespace.as_deref().map(Label::parse).transpose().map_err(|e| e.at("namespace"))?;
    let pod_security = pod_security(input.pod_security.as_deref())?;
    let labels = check_labels(input.labels.unwrap_or_default())?;
    let quotas = input.quotas.map(|map| map.0);
    let now = manager.clock.now();
    if let Some(wish) = &wish {
        check_project_namespace(wish)?;
        refuse_foreign_namespace(&caller, tenant_id, wish).await?;
    }

    let mut tx = caller.change().await?;
    let absent = || Error::invalid(format!("tenant_id: there is no tenant {tenant_id}"));
    let tenant = tenant::lock(&mut tx.conn(), caller.scope, tenant_id).await?.ok_or_else(absent)?;
    if tenant.deleting_at.is_some() {
        return Err(Error::conflict(format!("tenant {:?} is being deleted", tenant.name.as_str())).into());
    }
    unchanged_id("cluster_id", input.cluster_id.as_deref(), tenant.cluster_id.0)?;
    refuse_taken_name(&caller, &mut tx.conn(), &tenant, &name).await?;
    refuse_too_many(&mut tx.conn(), &tenant).await?;
    let id = ProjectId(manager.ids.next());
    let granted = quota::decide(&mut tx.conn(), &tenant, id, quotas.as_ref()).await?;
    let namespace = claim_namespace(&caller, &mut tx.conn(), &tenant, &name, id, wish).await?;
    let row = Project {
        tenant_id,
        id,
        cluster_id: tenant.cluster_id,
        name,
        namespace,
        quotas,
        granted,
        pod_security,
        labels,
        version: 1,
        created_at: now,
        updated_at: now,
        deleting_at: None,
    };
    project::insert(&mut tx.conn(), &row)
        .await?
        .or_conflict(|_| format!("a project named {:?} exists already", row.name.as_str()))?;
    objects::mark_project(&mut tx.conn(), &tenant, &row, now).await?;
    let deed = Deed {
        verb: "create",
        kind: KIND,
        id: row.id.to_string(),
        tenant: Some(tenant_id),
        after: Some(digest::of(&row)?),
        before: None,
        detail: row.namespace.to_string(),
        about: events::of_project(&row),
    };
    let location = format!("/v1/projects/{}", row.id);
    let item = answer(&mut tx.conn(), row.clone()).await?;
    let mut created = Created { item, version: row.version, location };
    caller.commit_answered(tx, deed, &created).await?;
    manager.wake.cluster(row.cluster_id);
    if !wait.is_zero() {
        let looking = async {
            settle::wait(manager, objects::project_key(&row), wait).await?;
            answer(&mut caller.read().await?.conn(), row).await
        };
        created.item = settle::or_committed(looking.await, created.item);
    }
    Ok(created)
}

/// Refuses what the caller may not choose before the cluster is asked, so that nobody learns from it which namespaces exist outside the own prefix.
/// The look is early advice, as far as the cluster answers: the operator decides, by POST.
async fn refuse_foreign_namespace(caller: &Caller<WriteProjects>, tenant: TenantId, wish: &Label) -> Result<()> {
    let manager = &caller.manager;
    let mut read = caller.read().await?;
    let Some(tenant) = tenant::get(&mut read.conn(), caller.scope, tenant).await? else { return Ok(()) };
    check_choice(caller, &tenant, wish)?;
    let Some(home) = cluster::get(&mut read.conn(), tenant.cluster_id).await? else { return Ok(()) };
    drop(read);
    if home.bootstrap_state != BootstrapState::Done {
        return Ok(());
    }
    let looking = async {
        let client = manager.clusters.get(&manager.store, &home).await?.manager().await?;
        let namespaces: Api<Namespace> = Api::all(client);
        namespaces.get_metadata_opt(wish.as_str()).await.doing("reading the namespace")
    };
    match tokio::time::timeout(LOOK, looking).await {
        Ok(Ok(Some(_))) => Err(taken(wish)),
        Ok(Ok(None) | Err(_)) | Err(_) => Ok(()),
    }
}

/// Callers other than admins choose among the names of their tenant.
fn check_choice(caller: &Caller<WriteProjects>, tenant: &Tenant, wish: &Label) -> Result<()> {
    let prefix = tenant_namespace_prefix(&tenant.name);
    if caller.actor.role == Role::Admin || wish.as_str().starts_with(&prefix) {
        return Ok(());
    }
    Err(Error::invalid(format!("namespace: {:?} is not allowed: it must begin with {prefix:?}", wish.as_str())))
}

/// One answer for a namespace that another project holds and for one that is not ours.
fn taken(namespace: &Label) -> Error {
    Error::invalid(format!("namespace: {:?} cannot be used: it is taken", namespace.as_str()))
}

async fn refuse_too_many(conn: &mut Conn<'_>, tenant: &Tenant) -> Result<()> {
    let count = project::count_in_tenant(conn, tenant.id).await?;
    if count < MOST {
        return Ok(());
    }
    Err(Error::conflict(format!("tenant {:?} has {count} projects: at most {MOST} are allowed", tenant.name.as_str())))
}

async fn refuse_taken_name(
    caller: &Caller<WriteProjects>,
    conn: &mut Conn<'_>,
    tenant: &Tenant,
    name: &Label,
) -> Result<()> {
    let Some(existing) = project::by_name(conn, caller.scope, tenant.id, name.as_str()).await? else { return Ok(()) };
    let name = name.as_str();
    Err(Error::conflict(if existing.deleting_at.is_some() {
        format!("project {name:?} is being deleted; its name is free when that is done")
    } else {
        format!("a project named {name:?} exists already in tenant {:?}", tenant.name.as_str())
    }))
}

/// Takes a namespace: the one that is wished for, else the first of the default ones that is free.
async fn claim_namespace(
    caller: &Caller<WriteProjects>,
    conn: &mut Conn<'_>,
    tenant: &Tenant,
    name: &Label,
    id: ProjectId,
    wish: Option<Label>,
) -> Result<Label> {
    let holder = Holder { tenant_id: tenant.id, project_id: id };
    let candidates = match wish {
        Some(wish) => {
            check_choice(caller, tenant, &wish)?;
            vec![wish]
        }
        None => default_namespaces(&tenant.name, name, id),
    };
    for candidate in &candidates {
        if namespace_claim::claim(conn, tenant.cluster_id, candidate.as_str(), holder).await? == Inserted::Yes {
            return Ok(candidate.clone());
        }
    }
    Err(candidates.first().map_or_else(|| Error::invalid("namespace: none can be made of these names"), taken))
}
