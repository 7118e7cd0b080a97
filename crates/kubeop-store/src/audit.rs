//! The audit log: who did what, written in the transaction of the change.
//!
//! Invariant: records are only ever added; sealing one adds its place and hash and changes nothing else.

mod seal;

pub use seal::{
    Chain, Seal, begin_sealing, chain, chains, chains_with, count_chains, count_misplaced, count_unsealed,
    has_unsealed, next_sealed, put_chain, seal, sealed, unsealed,
};

use crate::column::{Id, Many, Ts, clean};
use crate::page::{Filter, limit, page_sql};
use crate::project::Owner;
use crate::{Conn, Page, Result, on, sql};
use jiff::Timestamp;
use kubeop_core::authz::Scope;
use kubeop_core::id::{ProjectId, TenantId};
use uuid::Uuid;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its id.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who: the `sub` claim.
    pub subject: String,
    /// As what: the `role` claim.
    pub role: String,
    /// The tenant it concerns; none: the platform.
    pub tenant_id: Option<TenantId>,
    /// What was done: `create`, `update`, `delete`, `issue`, ...
    pub action: String,
    /// The kind of thing it was done to.
    pub object_kind: String,
    /// The id of that thing; empty if it has none.
    pub object_id: String,
    /// `done` or `denied`.
    pub outcome: String,
    /// The request's id, to find it in the log.
    pub request_id: String,
    /// Digest of the thing before.
    pub before_digest: Option<String>,
    /// Digest of the thing after.
    pub after_digest: Option<String>,
    /// More, for a person; no secrets.
    pub detail: String,
    /// Its place in its chain and the hash there, once it is sealed.
    pub seal: Option<(i64, Vec<u8>)>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    #[sqlx(try_from = "Ts")]
    at: Timestamp,
    subject: String,
    role: String,
    #[sqlx(try_from = "Id")]
    tenant_id: TenantId,
    action: String,
    object_kind: String,
    object_id: String,
    outcome: String,
    request_id: String,
    before_digest: Option<String>,
    after_digest: Option<String>,
    detail: String,
    seq: Option<i64>,
    hash: Option<Vec<u8>>,
}

impl From<Row> for AuditRecord {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            at: row.at,
            subject: row.subject,
            role: row.role,
            tenant_id: (!row.tenant_id.0.is_nil()).then_some(row.tenant_id),
            action: row.action,
            object_kind: row.object_kind,
            object_id: row.object_id,
            outcome: row.outcome,
            request_id: row.request_id,
            before_digest: row.before_digest,
            after_digest: row.after_digest,
            detail: row.detail,
            seal: row.seq.zip(row.hash),
        }
    }
}

/// Adds a record. Text from outside loses NUL characters and what is beyond 1,000 characters (10,000 of the detail).
pub async fn append(c: &mut Conn<'_>, record: &AuditRecord) -> Result<()> {
    let q = sql!(
        "INSERT INTO audit_record (tenant_id, id, at, subject, role, action, object_kind, object_id, outcome, request_id, \
         before_digest, after_digest, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
    );
    on!(c, x => sqlx::query(q)
        .bind(record.tenant_id.map_or(Uuid::nil(), |id| id.0))
        .bind(record.id)
        .bind(Ts::from(record.at))
        .bind(clean(&record.subject, 1000))
        .bind(clean(&record.role, 1000))
        .bind(clean(&record.action, 1000))
        .bind(clean(&record.object_kind, 1000))
        .bind(clean(&record.object_id, 1000))
        .bind(clean(&record.outcome, 1000))
        .bind(clean(&record.request_id, 1000))
        .bind(record.before_digest.as_deref().map(|text| clean(text, 1000)))
        .bind(record.after_digest.as_deref().map(|text| clean(text, 1000)))
        .bind(clean(&record.detail, 10_000))
        .execute(x)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// The digest that an invoice had when it was closed, as is on record.
pub async fn closing_digest(c: &mut Conn<'_>, invoice: Uuid) -> Result<Option<String>> {
    let q = sql!(
        "SELECT after_digest FROM audit_record WHERE object_id = $1 AND object_kind = 'invoice' AND action = 'close' \
         ORDER BY at, id LIMIT 1"
    );
    let found: Option<Option<String>> =
        on!(c, x => sqlx::query_scalar(q).bind(invoice.to_string()).fetch_optional(x).await)?;
    Ok(found.flatten())
}

/// Whose these projects were, as is on record of when each was made; one that was never made is absent. For kubeOP's own checks of usage, of
/// projects that are gone.
pub async fn owners_on_record(c: &mut Conn<'_>, projects: &[ProjectId]) -> Result<Vec<Owner>> {
    let q = c.pick(
        sql!(pg: "SELECT p.id AS project_id, made.tenant_id FROM UNNEST($1::uuid[]) AS p(id) CROSS JOIN LATERAL \
              (SELECT tenant_id FROM audit_record WHERE object_id = p.id::text AND object_kind = 'project' AND action = 'create' \
              AND outcome = 'done' ORDER BY at, id LIMIT 1) AS made"),
        sql!(sqlite: "SELECT unhex(p.value, '-') AS project_id, (SELECT tenant_id FROM audit_record WHERE object_id = p.value \
              AND object_kind = 'project' AND action = 'create' AND outcome = 'done' ORDER BY at, id LIMIT 1) AS tenant_id \
              FROM json_each($1) AS p WHERE tenant_id IS NOT NULL"),
    );
    let ids: Vec<Uuid> = projects.iter().map(|id| id.0).collect();
    Ok(on!(c, x => sqlx::query_as(q).bind(Many(ids)).fetch_all(x).await)?)
}

/// What the log is narrowed to.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditFilter<'a> {
    /// Only what concerns this tenant.
    pub tenant_id: Option<TenantId>,
    /// Only what was done to this thing.
    pub object_id: Option<&'a str>,
    /// Only by this subject.
    pub subject: Option<&'a str>,
    /// Only this action.
    pub action: Option<&'a str>,
    /// Only from then on.
    pub from: Option<Timestamp>,
    /// Only before then.
    pub until: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "tenant_id, id, at, subject, role, action, object_kind, object_id, outcome, request_id, before_digest, after_digest, \
         detail, seq, hash"
    };
}

use columns;

macro_rules! filtered {
    () => {
        "(tenant_id = $4 OR $4 IS NULL) AND (object_id = $5 OR $5 IS NULL) AND (subject = $6 OR $6 IS NULL) \
         AND (action = $7 OR $7 IS NULL)"
    };
}

/// `plain` where the anchor is the whole filter; else the rest of it is in the inner query, which then reads until it has enough.
macro_rules! page_where {
    (plain $anchor:literal) => {
        page_sql!(columns!(), "audit_record", "at, id", concat!($anchor, " AND at < $3"), "$8", filtered!())
    };
    ($anchor:literal) => {
        page_sql!(
            columns!(),
            "audit_record",
            "at, id",
            concat!($anchor, " AND at < $3 AND ", filtered!()),
            "$8",
            "TRUE"
        )
    };
}

/// A page of the records in `scope` that `filter` leaves, in order of (at, id). A scope of one project sees none.
pub async fn list(c: &mut Conn<'_>, scope: Scope, filter: &AuditFilter<'_>, page: &Page) -> Result<Vec<AuditRecord>> {
    let tenants = Filter { tenant_id: filter.tenant_id, ..Filter::default() };
    let Some(bound) = tenants.within(scope).filter(|bound| bound.project.is_none()) else { return Ok(Vec::new()) };
    // Where several are given, the one that likely leaves fewest.
    let q = match (filter.object_id, filter.subject, bound.tenant, filter.action) {
        (Some(_), None, None, None) => page_where!(plain "object_id = $5"),
        (Some(_), ..) => page_where!("object_id = $5"),
        (None, Some(_), None, None) => page_where!(plain "subject = $6"),
        (None, Some(_), None, Some(_)) => page_where!("subject = $6"),
        (None, None, Some(_), None) => page_where!(plain "tenant_id = $4"),
        (None, _, Some(_), _) => page_where!("tenant_id = $4"),
        (None, None, None, Some(_)) => page_where!(plain "action = $7"),
        (None, None, None, None) => page_where!(plain "TRUE"),
    };
    // The nil id comes before every id of the same instant.
    let from = filter.from.map(|from| (Ts::from(from), Uuid::nil()));
    let start = from.map_or(page.start(), |from| from.max(page.start()));
    let until = Ts::from(filter.until.unwrap_or(Timestamp::MAX));
    let rows: Vec<Row> = on!(c, x => sqlx::query_as(q)
        .bind(start.0)
        .bind(start.1)
        .bind(until)
        .bind(bound.tenant)
        .bind(filter.object_id)
        .bind(filter.subject)
        .bind(filter.action)
        .bind(limit(page.limit))
        .fetch_all(x)
        .await)?;
    Ok(rows.into_iter().map(AuditRecord::from).collect())
}
