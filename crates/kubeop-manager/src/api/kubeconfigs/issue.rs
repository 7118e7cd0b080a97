//! `GET /v1/kubeconfigs/project/{id}`.
//!
//! Invariant: recorded before it is shown; if it cannot be recorded, its Secret is removed and nothing is shown.

use super::KIND;
use crate::api::projects;
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::IssueKubeconfigs;
use crate::events::{self, About};
use crate::http::answer::Secret;
use crate::http::error::ApiResult;
use crate::http::params::{ItemId, Query, number};
use crate::sync::{objects, settle};
use jiff::SignedDuration;
use kubeop_api::credential::{Kubeconfig as Answer, KubeconfigQuery};
use kubeop_api::resource::Phase;
use kubeop_cluster::credential::{self, AccessRole as Role, Issued, Request};
use kubeop_core::authz::{Action, system_scope};
use kubeop_core::id::KubeconfigId;
use kubeop_core::{Error, Result};
use kubeop_store::issued_kubeconfig::{self, AccessRole, IssuedKubeconfig};
use kubeop_store::project::Project;
use kubeop_store::{cluster, project, tenant};
use secrecy::ExposeSecret;
use std::time::Duration;

/// How long a project may take to become ready.
const PATIENCE: Duration = Duration::from_secs(10);
/// Live kubeconfigs of one project.
const MAX_LIVE: i64 = 50;

/// Issues a project's kubeconfig.
pub async fn handle(
    caller: Caller<IssueKubeconfigs>,
    ItemId(id): ItemId,
    Query(query): Query<KubeconfigQuery>,
) -> ApiResult<Secret<Answer>> {
    let minutes = number("ttl_minutes", query.ttl_minutes.as_deref(), 60, 10..=1440)?;
    let role = query.role.as_deref().map_or(Ok(Role::Developer), Role::parse)?;
    if role == Role::Admin {
        caller.require(Action::ManageKubeconfigs).await?;
    }
    let row = projects::get::find(&mut caller.read().await?.conn(), caller.scope, &id).await?;
    ready(&caller, &row).await?;
    // On its own, so that a caller who goes away does not leave a Secret without a record.
    let issuing = tokio::spawn(async move { issue(&caller, &row, role, minutes).await });
    let issued = issuing.await.map_err(Error::internal)??;
    Ok(Secret(issued))
}

async fn ready(caller: &Caller<IssueKubeconfigs>, row: &Project) -> Result<()> {
    settle::wait(&caller.manager, objects::project_key(row), PATIENCE).await?;
    let mut read = caller.read().await?;
    let fresh = projects::get::find(&mut read.conn(), caller.scope, &row.id.to_string()).await?;
    let status = projects::answer(&mut read.conn(), fresh).await?.status;
    if status.phase == Phase::Ready {
        return Ok(());
    }
    let why = if status.message.is_empty() { format!("{:?}", status.phase) } else { status.message };
    Err(Error::unavailable(format!("the project is not ready: {why}")))
}

async fn issue(caller: &Caller<IssueKubeconfigs>, row: &Project, role: Role, minutes: i64) -> Result<Answer> {
    let manager = &caller.manager;
    let now = manager.clock.now();
    let mut read = caller.read().await?;
    let live = issued_kubeconfig::count_live(&mut read.conn(), row.id, now).await?;
    if live >= MAX_LIVE {
        return Err(Error::conflict(format!(
            "the project has {live} live kubeconfigs, at most {MAX_LIVE} are allowed: revoke some"
        )));
    }
    let home = cluster::get(&mut read.conn(), row.cluster_id)
        .await?
        .ok_or_else(|| Error::unavailable("the project's cluster is not registered any more"))?;
    let tenant = tenant::get(&mut read.conn(), system_scope(), row.tenant_id)
        .await?
        .ok_or_else(|| Error::unavailable("the project's tenant is gone"))?;
    drop(read);
    let connection = manager.clusters.get(&manager.store, &home).await?;
    let client = connection.manager().await?;
    let request = Request {
        id: KubeconfigId(manager.ids.next()),
        project_id: row.id,
        tenant: tenant.name,
        project: row.name.clone(),
        namespace: row.namespace.clone(),
        role,
        ttl: SignedDuration::from_mins(minutes),
        server: home.public_server.unwrap_or(home.server),
        ca_pem: connection.kubeconfig.ca_pem().map(ToOwned::to_owned),
        tls_server_name: connection.kubeconfig.tls_server_name().map(ToOwned::to_owned),
    };
    let issued = credential::issue(&client, &request).await?;
    if let Err(error) = record(caller, row, role, request.id, &issued).await {
        if let Err(left) = credential::revoke(&client, &issued.secret_name, &issued.secret_uid).await {
            tracing::warn!(secret = %issued.secret_name, error = %left.chain(), "failed to remove an unrecorded credential");
        }
        return Err(error);
    }
    Ok(Answer {
        kubeconfig: issued.kubeconfig.expose_secret().to_owned(),
        expires_at: issued.expires_at,
        id: request.id,
    })
}

async fn record(
    caller: &Caller<IssueKubeconfigs>,
    row: &Project,
    role: Role,
    id: KubeconfigId,
    issued: &Issued,
) -> Result<()> {
    let now = caller.manager.clock.now();
    let mut tx = caller.change().await?;
    // The project's row is held: a kubeconfig is not recorded for one that is being deleted, nor past the limit by racing callers.
    let held = project::lock(&mut tx.conn(), caller.scope, row.id).await?;
    if held.is_none_or(|held| held.deleting_at.is_some()) {
        return Err(Error::conflict(format!("project {:?} is being deleted", row.name.as_str())));
    }
    if issued_kubeconfig::count_live(&mut tx.conn(), row.id, now).await? >= MAX_LIVE {
        return Err(Error::conflict(format!("the project has {MAX_LIVE} live kubeconfigs already: revoke some")));
    }
    let record = IssuedKubeconfig {
        tenant_id: row.tenant_id,
        id,
        project_id: row.id,
        cluster_id: row.cluster_id,
        role: access_role(role),
        secret_name: issued.secret_name.clone(),
        secret_uid: issued.secret_uid.clone(),
        service_account: issued.service_account.clone(),
        subject: caller.actor.subject.clone(),
        created_at: now,
        expires_at: issued.expires_at,
        revoked_at: None,
    };
    issued_kubeconfig::insert(&mut tx.conn(), &record).await?;
    let deed = Deed {
        verb: "issue",
        kind: KIND,
        id: id.to_string(),
        tenant: Some(row.tenant_id),
        about: About { name: None, ..events::of_project(row) },
        before: None,
        after: Some(digest::of(&record)?),
        detail: format!("{} of project {}", role.as_str(), row.id),
    };
    caller.commit(tx, deed).await
}

fn access_role(role: Role) -> AccessRole {
    match role {
        Role::Developer => AccessRole::Developer,
        Role::Viewer => AccessRole::Viewer,
        Role::Admin => AccessRole::Admin,
    }
}
