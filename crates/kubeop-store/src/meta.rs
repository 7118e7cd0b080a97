//! Facts about this installation, by key: who it is, and how to tell a wrong key.
//!
//! Invariant: a fact, once written, stays.

use crate::{Conn, Result, on, sql};
use kubeop_core::id::InstanceId;
use uuid::Uuid;

const INSTANCE: &str = "instance";

/// The value under `key`.
pub async fn get(c: &mut Conn<'_>, key: &str) -> Result<Option<String>> {
    let q = sql!("SELECT value FROM meta WHERE key = $1");
    Ok(on!(c, x => sqlx::query_scalar(q).bind(key).fetch_optional(x).await)?)
}

/// Writes `value` unless there is one; returns the one that is there now.
pub async fn put_if_absent(c: &mut Conn<'_>, key: &str, value: &str) -> Result<String> {
    // The no-op update makes a value that another transaction is just writing visible to RETURNING.
    let q = sql!(
        "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = meta.value RETURNING value"
    );
    Ok(on!(c, x => sqlx::query_scalar(q).bind(key).bind(value).fetch_one(x).await)?)
}

/// The id of this installation: `candidate` the first time, and the same for ever after.
pub async fn instance_id(c: &mut Conn<'_>, candidate: InstanceId) -> Result<InstanceId> {
    let text = put_if_absent(c, INSTANCE, &candidate.to_string()).await?;
    let id = Uuid::try_parse(&text)
        .map_err(|_| crate::StoreError::Defect(format!("the instance id in the database is {text:?}")))?;
    Ok(InstanceId(id))
}
