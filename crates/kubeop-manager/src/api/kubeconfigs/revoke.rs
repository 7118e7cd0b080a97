//! `DELETE /v1/kubeconfigs/{id}`.
//!
//! Invariant: recorded first, then taken away on the cluster; a cluster that does not answer is tried again by the collector.

use super::KIND;
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::ManageKubeconfigs;
use crate::events::About;
use crate::http::answer::Deleted;
use crate::http::error::ApiResult;
use crate::http::params::{ItemId, NoQuery};
use crate::jobs::credentials;
use kubeop_api::credential::IssuedKubeconfig as Answer;
use kubeop_core::Error;
use kubeop_core::id::KubeconfigId;
use kubeop_store::issued_kubeconfig::{self, IssuedKubeconfig};

/// Revokes a kubeconfig: 204 when its Secret is gone, 202 while the cluster does not answer.
pub async fn handle(caller: Caller<ManageKubeconfigs>, ItemId(id): ItemId, _: NoQuery) -> ApiResult<Deleted<Answer>> {
    let id = KubeconfigId::parse(&id)?;
    let manager = &caller.manager;
    let mut tx = caller.change().await?;
    let row = issued_kubeconfig::revoke(&mut tx.conn(), caller.scope, id, manager.clock.now())
        .await?
        .ok_or_else(|| Error::not_found(format!("there is no kubeconfig {id}")))?;
    let deed = Deed {
        verb: "revoke",
        kind: KIND,
        id: id.to_string(),
        tenant: Some(row.tenant_id),
        about: About { name: None, cluster: Some(row.cluster_id), project: Some(row.project_id) },
        before: Some(digest::of(&IssuedKubeconfig { revoked_at: None, ..row.clone() })?),
        after: Some(digest::of(&row)?),
        ..Deed::default()
    };
    caller.commit(tx, deed).await?;
    match credentials::take_away(manager, &row).await {
        Ok(()) => Ok(Deleted::Done),
        Err(error) => {
            tracing::warn!(kubeconfig = %id, error = %error.chain(), "revoked, but the cluster still holds its Secret");
            Ok(Deleted::UnderWay(Answer {
                id: row.id,
                project_id: row.project_id,
                role: row.role.as_str().to_owned(),
                issued_to: row.subject,
                created_at: row.created_at,
                expires_at: row.expires_at,
                revoked_at: row.revoked_at,
            }))
        }
    }
}
