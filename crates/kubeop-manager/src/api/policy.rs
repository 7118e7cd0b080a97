//! `PUT` and `GET /v1/platform/policy`.
//!
//! Invariant: what is stored was parsed; what is in force on a cluster is what its desired-state row says.

use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::{ReadPolicy, WritePolicy};
use crate::http::answer::Item;
use crate::http::body::Body;
use crate::http::error::ApiResult;
use crate::http::if_match::IfMatch;
use crate::http::params::NoQuery;
use crate::sync::objects;
use kubeop_api::policy::{Policy as Answer, PolicyInput, PolicySync, QuotaMax};
use kubeop_core::authz::Role;
use kubeop_core::policy::{PlatformPolicy, RawPolicy, RawQuotaMax};
use kubeop_core::{Error, Result};
use kubeop_store::Page;
use kubeop_store::cluster_object::{self, ObjectKind};
use kubeop_store::{Conn, cluster, platform_policy};

/// The policy in force.
pub struct Current {
    /// As it was written.
    pub raw: RawPolicy,
    /// As it is decided by.
    pub policy: PlatformPolicy,
    /// Its version.
    pub version: i64,
}

/// Reads the policy in force.
pub async fn current(conn: &mut Conn<'_>) -> Result<Current> {
    let row = platform_policy::get(conn).await?.ok_or_else(|| Error::internal("no policy is stored"))?;
    let raw: RawPolicy = serde_json::from_value(row.policy).map_err(Error::internal)?;
    let policy = PlatformPolicy::parse(&raw)?;
    Ok(Current { raw, policy, version: row.version })
}

/// Replaces the policy.
pub async fn put(
    caller: Caller<WritePolicy>,
    if_match: IfMatch,
    _: NoQuery,
    Body(input): Body<PolicyInput>,
) -> ApiResult<Item<Answer>> {
    let manager = &caller.manager;
    let max = input.quota_max.unwrap_or_default();
    let raw = RawPolicy {
        image_allowlist: input.image_allowlist.unwrap_or_default(),
        egress_baseline: input.egress_baseline.unwrap_or_default(),
        quota_max: RawQuotaMax { requests_cpu: max.requests_cpu, requests_memory: max.requests_memory },
    };
    PlatformPolicy::parse(&raw)?;
    let value = serde_json::to_value(&raw).map_err(Error::internal)?;
    let now = manager.clock.now();
    let mut tx = caller.change().await?;
    let before = current(&mut tx.conn()).await?;
    let expected = if_match.is_given().then_some(before.version);
    if_match.check(before.version)?;
    if platform_policy::put(&mut tx.conn(), expected, &value, now).await?.is_none() {
        return Err(Error::conflict("the policy was changed at the same time: read it again").into());
    }
    cluster_object::mark_kind(&mut tx.conn(), ObjectKind::Policy, None, now).await?;
    let deed = Deed {
        verb: "update",
        kind: "policy",
        id: "platform".to_owned(),
        before: Some(digest::of(&before.raw)?),
        after: Some(digest::of(&raw)?),
        ..Deed::default()
    };
    caller.commit(tx, deed).await?;
    manager.wake.all();
    let mut read = caller.read().await?;
    answer(&mut read.conn(), caller.actor.role).await.map_err(Into::into)
}

/// The policy in force and which clusters hold it.
pub async fn get(caller: Caller<ReadPolicy>, _: NoQuery) -> ApiResult<Item<Answer>> {
    let mut read = caller.read().await?;
    answer(&mut read.conn(), caller.actor.role).await.map_err(Into::into)
}

async fn answer(conn: &mut Conn<'_>, role: Role) -> Result<Item<Answer>> {
    let current = current(conn).await?;
    // Which clusters there are is the platform team's to know.
    let clusters = if role == Role::Admin { sync_state(conn).await? } else { Vec::new() };
    let answer = Answer {
        image_allowlist: current.raw.image_allowlist,
        egress_baseline: current.raw.egress_baseline,
        quota_max: QuotaMax {
            requests_cpu: current.raw.quota_max.requests_cpu,
            requests_memory: current.raw.quota_max.requests_memory,
        },
        version: current.version,
        clusters,
    };
    Ok(Item(answer, current.version))
}

async fn sync_state(conn: &mut Conn<'_>) -> Result<Vec<PolicySync>> {
    let rows = cluster::list(conn, &Page::first(1000)).await?;
    let ids: Vec<_> = rows.iter().map(|row| row.id.0).collect();
    let known = objects::of_entities(conn, ObjectKind::Policy, &ids).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let object = known.get(&row.id.0);
            PolicySync {
                cluster_id: row.id,
                cluster: row.name.to_string(),
                synced: object.is_some_and(cluster_object::ClusterObject::is_synced),
                message: object.and_then(|object| object.last_error.clone()).unwrap_or_default(),
            }
        })
        .collect())
}
