//! Mirroring what the clusters show of the resources.

use super::{ObjectKind, sql};
use crate::column::Ts;
use crate::{Conn, Result, on};
use jiff::Timestamp;
use kubeop_core::id::ClusterId;
use serde_json::Value;
use sqlx::types::Json;
use std::collections::BTreeMap;
use uuid::Uuid;

/// How many observations one statement takes.
const CHUNK: usize = 1000;

/// What was seen of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The kind.
    pub kind: ObjectKind,
    /// The entity's id, from the resource's label.
    pub entity_id: Uuid,
    /// Its status; `Null` if it has none.
    pub status: Value,
    /// Its uid.
    pub uid: String,
}

#[derive(serde::Serialize)]
struct Row {
    kind: &'static str,
    entity_id: Uuid,
    status: Value,
    uid: String,
}

/// Records what was seen on a cluster at `at`, in the order seen: of one resource the last counts. What has no row is passed over, what is
/// as recorded is not written. One writer at a time, by the cluster's lease, and the clocks of two are never compared: what comes last stands.
/// Returns how many rows were written.
pub async fn observe_many(c: &mut Conn<'_>, cluster_id: ClusterId, seen: &[Observation], at: Timestamp) -> Result<u64> {
    let q = c.pick(
        sql!(pg: "INSERT INTO cluster_observed (cluster_id, kind, entity_id, status, uid, observed_at) \
              SELECT o.cluster_id, o.kind, o.entity_id, COALESCE(v.status, CAST('null' AS jsonb)), v.uid, $3 \
              FROM jsonb_to_recordset($2) AS v(kind text, entity_id uuid, status jsonb, uid text) \
              JOIN cluster_object o ON o.cluster_id = $1 AND o.kind = v.kind AND o.entity_id = v.entity_id \
              ORDER BY o.kind, o.entity_id \
              ON CONFLICT (cluster_id, kind, entity_id) DO UPDATE \
              SET status = excluded.status, uid = excluded.uid, observed_at = GREATEST(cluster_observed.observed_at, excluded.observed_at) \
              WHERE cluster_observed.status <> excluded.status OR cluster_observed.uid <> excluded.uid"),
        sql!(sqlite: "INSERT INTO cluster_observed (cluster_id, kind, entity_id, status, uid, observed_at) \
              SELECT o.cluster_id, o.kind, o.entity_id, v.value -> 'status', v.value ->> 'uid', $3 \
              FROM json_each($2) AS v JOIN cluster_object o ON o.cluster_id = $1 AND o.kind = v.value ->> 'kind' \
              AND o.entity_id = unhex(v.value ->> 'entity_id', '-') WHERE TRUE \
              ON CONFLICT (cluster_id, kind, entity_id) DO UPDATE \
              SET status = excluded.status, uid = excluded.uid, observed_at = MAX(cluster_observed.observed_at, excluded.observed_at) \
              WHERE cluster_observed.status <> excluded.status OR cluster_observed.uid <> excluded.uid"),
    );
    let last: BTreeMap<(&'static str, Uuid), &Observation> =
        seen.iter().map(|one| ((one.kind.as_str(), one.entity_id), one)).collect();
    let rows: Vec<Row> = last
        .into_iter()
        .map(|((kind, entity_id), one)| Row {
            kind,
            entity_id,
            status: without_nul(&one.status),
            uid: crate::column::clean(&one.uid, 200),
        })
        .collect();
    let mut written = 0;
    for chunk in rows.chunks(CHUNK) {
        written += on!(c, x => sqlx::query(q)
            .bind(cluster_id.0)
            .bind(Json(chunk))
            .bind(Ts::from(at))
            .execute(x)
            .await
            .map(|done| done.rows_affected()))?;
    }
    Ok(written)
}

/// A copy without NUL characters, which a `jsonb` refuses: one odd message must not lose the whole batch.
fn without_nul(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('\0', "")),
        Value::Array(items) => Value::Array(items.iter().map(without_nul).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.replace('\0', ""), without_nul(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_dropped_at_any_depth() {
        let odd = serde_json::json!({"a\0": ["b\0", {"c": "\0d"}], "n": 1});
        assert_eq!(without_nul(&odd), serde_json::json!({"a": ["b", {"c": "d"}], "n": 1}));
    }
}
