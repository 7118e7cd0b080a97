//! `GET /v1/audit`.
//!
//! Invariant: read by the platform team alone; newest last, keyset-paged.

use crate::api::list;
use crate::auth::caller::Caller;
use crate::auth::permission::ReadAudit;
use crate::http::answer::Page;
use crate::http::error::ApiResult;
use crate::http::params::Query;
use axum::extract::OriginalUri;
use jiff::Timestamp;
use kubeop_core::hex;
use kubeop_core::id::TenantId;
use kubeop_store::audit::{self, AuditFilter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of the audit log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct AuditQuery {
    /// How many at most: 1 to 1000, default 100.
    #[schemars(with = "Option<i32>", range(min = 1, max = 1000))]
    pub limit: Option<String>,
    /// Where to go on.
    pub cursor: Option<String>,
    /// Only of this tenant.
    #[schemars(extend("format" = "uuid"))]
    pub tenant_id: Option<String>,
    /// Only of this object.
    pub object_id: Option<String>,
    /// Only by this caller.
    pub subject: Option<String>,
    /// Only this action.
    pub action: Option<String>,
}

/// A record of the audit log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditEntry {
    /// Its id.
    pub id: uuid::Uuid,
    /// When it happened.
    pub at: Timestamp,
    /// Who did it.
    pub subject: String,
    /// In which role.
    pub role: String,
    /// The tenant it concerns.
    pub tenant_id: Option<TenantId>,
    /// What was done.
    pub action: String,
    /// To what kind of object.
    pub object_kind: String,
    /// To which object.
    pub object_id: String,
    /// `done` or `denied`.
    pub outcome: String,
    /// The request it was done by.
    pub request_id: String,
    /// Digest of the thing before: `sha256:` over its canonical JSON, without secrets; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_digest: Option<String>,
    /// Digest of the thing after; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_digest: Option<String>,
    /// What else is worth knowing.
    pub detail: String,
    /// Its place in its tenant's (or the platform's) chain; absent until it is sealed, which takes about a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// The hash at that place: SHA-256 over the hash before and this record, as hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// Lists the audit log.
pub async fn list(
    caller: Caller<ReadAudit>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<AuditQuery>,
) -> ApiResult<Page<AuditEntry>> {
    let page = list::page(query.limit.as_deref(), query.cursor.as_deref())?;
    let filter = AuditFilter {
        tenant_id: query.tenant_id.as_deref().map(TenantId::parse).transpose().map_err(|e| e.at("tenant_id"))?,
        object_id: query.object_id.as_deref(),
        subject: query.subject.as_deref(),
        action: query.action.as_deref(),
        ..AuditFilter::default()
    };
    let mut rows = audit::list(&mut caller.read().await?.conn(), caller.scope, &filter, &page).await?;
    let next = list::cut(&mut rows, &page, |row| (row.at, row.id));
    let items = rows
        .into_iter()
        .map(|row| AuditEntry {
            id: row.id,
            at: row.at,
            subject: row.subject,
            role: row.role,
            tenant_id: row.tenant_id,
            action: row.action,
            object_kind: row.object_kind,
            object_id: row.object_id,
            outcome: row.outcome,
            request_id: row.request_id,
            before_digest: row.before_digest,
            after_digest: row.after_digest,
            detail: row.detail,
            seq: row.seal.as_ref().map(|(seq, _)| *seq),
            hash: row.seal.map(|(_, hash)| hex::encode(&hash)),
        })
        .collect();
    Ok(list::answer(items, &uri, next))
}
