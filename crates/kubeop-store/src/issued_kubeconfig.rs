//! Kubeconfigs that were issued: each stands for a Secret in the cluster, whose deletion revokes it.
//!
//! Invariant: a row is removed only after its Secret is gone; `collect_at` says when the Secret is to go (expiry, or at once when revoked).

use crate::column::{Id, Many, Maybe, Text, Ts, clean};
use crate::page::{limit, page_sql, reach};
use crate::{Conn, Filter, Page, Result, on, sql};
use jiff::Timestamp;
use kubeop_core::authz::Scope;
use kubeop_core::id::{ClusterId, KubeconfigId, ProjectId, TenantId};
use uuid::Uuid;

/// The rights of an issued kubeconfig in its project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessRole {
    /// Reads.
    Viewer,
    /// Works.
    Developer,
    /// Works, and grants of its own.
    Admin,
}

impl AccessRole {
    /// The word in the database, and in `?role=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Admin => "admin",
        }
    }
}

impl TryFrom<Text> for AccessRole {
    type Error = crate::StoreError;

    fn try_from(text: Text) -> Result<Self, Self::Error> {
        [Self::Viewer, Self::Developer, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text.0)
            .ok_or_else(|| crate::StoreError::Defect(format!("unknown kubeconfig role {:?}", text.0)))
    }
}

/// An issued kubeconfig (its token is nowhere).
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow, serde::Serialize)]
pub struct IssuedKubeconfig {
    /// The tenant.
    #[sqlx(try_from = "Id")]
    pub tenant_id: TenantId,
    /// Its id.
    #[sqlx(try_from = "Id")]
    pub id: KubeconfigId,
    /// The project it gives access to.
    #[sqlx(try_from = "Id")]
    pub project_id: ProjectId,
    /// The cluster.
    #[sqlx(try_from = "Id")]
    pub cluster_id: ClusterId,
    /// Its rights.
    #[sqlx(try_from = "Text")]
    pub role: AccessRole,
    /// The Secret its token is bound to.
    pub secret_name: String,
    /// That Secret's uid.
    pub secret_uid: String,
    /// The ServiceAccount it acts as.
    pub service_account: String,
    /// Who asked for it.
    pub subject: String,
    /// When.
    #[sqlx(try_from = "Ts")]
    pub created_at: Timestamp,
    /// The token's own end.
    #[sqlx(try_from = "Ts")]
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[sqlx(try_from = "Maybe<Ts>")]
    pub revoked_at: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "tenant_id, id, project_id, cluster_id, role, secret_name, secret_uid, service_account, subject, created_at, expires_at, \
         revoked_at"
    };
}

/// Records one. Lock its project first and ask [`count_live`], so that the limit holds under concurrency.
pub async fn insert(c: &mut Conn<'_>, row: &IssuedKubeconfig) -> Result<()> {
    let q = sql!(
        "INSERT INTO issued_kubeconfig (tenant_id, id, project_id, cluster_id, role, secret_name, secret_uid, service_account, \
         subject, created_at, expires_at, revoked_at, collect_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
    );
    let collect_at = row.revoked_at.unwrap_or(row.expires_at);
    on!(c, x => sqlx::query(q)
        .bind(row.tenant_id.0)
        .bind(row.id.0)
        .bind(row.project_id.0)
        .bind(row.cluster_id.0)
        .bind(row.role.as_str())
        .bind(clean(&row.secret_name, 300))
        .bind(clean(&row.secret_uid, 300))
        .bind(clean(&row.service_account, 300))
        .bind(clean(&row.subject, 300))
        .bind(Ts::from(row.created_at))
        .bind(Ts::from(row.expires_at))
        .bind(row.revoked_at.map(Ts::from))
        .bind(Ts::from(collect_at))
        .execute(x)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// One in `scope`.
pub async fn get(c: &mut Conn<'_>, scope: Scope, id: KubeconfigId) -> Result<Option<IssuedKubeconfig>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM issued_kubeconfig WHERE id = $1 AND (tenant_id = $2 OR $2 IS NULL) AND (project_id = $3 OR $3 IS NULL)"
    ));
    let (tenant, project) = reach(scope);
    Ok(on!(c, x => sqlx::query_as(q).bind(id.0).bind(tenant).bind(project).fetch_optional(x).await)?)
}

/// How many of a project work at `now`: neither expired nor revoked.
pub async fn count_live(c: &mut Conn<'_>, project_id: ProjectId, now: Timestamp) -> Result<i64> {
    let q = sql!(
        "SELECT COUNT(*) AS n FROM issued_kubeconfig WHERE project_id = $1 AND expires_at > $2 AND revoked_at IS NULL"
    );
    Ok(on!(c, x => sqlx::query_scalar(q).bind(project_id.0).bind(Ts::from(now)).fetch_one(x).await)?)
}

macro_rules! page_where {
    ($anchor:literal) => {
        page_sql!(
            columns!(),
            "issued_kubeconfig",
            "created_at, id",
            $anchor,
            "$6",
            "(cluster_id = $3 OR $3 IS NULL) AND (tenant_id = $4 OR $4 IS NULL) AND (project_id = $5 OR $5 IS NULL)"
        )
    };
}

/// A page of those in `scope` that `filter` leaves (they have no name: one in the filter leaves none).
pub async fn list(c: &mut Conn<'_>, scope: Scope, filter: &Filter<'_>, page: &Page) -> Result<Vec<IssuedKubeconfig>> {
    let Some(bound) = filter.within(scope).filter(|bound| bound.name.is_none()) else { return Ok(Vec::new()) };
    let q = match (bound.project, bound.tenant, bound.cluster) {
        (Some(_), ..) => page_where!("project_id = $5"),
        (None, Some(_), _) => page_where!("tenant_id = $4"),
        (None, None, Some(_)) => page_where!("cluster_id = $3"),
        (None, None, None) => page_where!("TRUE"),
    };
    let (at, id) = page.start();
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(at)
        .bind(id)
        .bind(bound.cluster)
        .bind(bound.tenant)
        .bind(bound.project)
        .bind(limit(page.limit))
        .fetch_all(x)
        .await)?)
}

/// Notes that one in `scope` is revoked, and due for collection; `None` if it is not there. Revoking again changes nothing.
pub async fn revoke(
    c: &mut Conn<'_>,
    scope: Scope,
    id: KubeconfigId,
    now: Timestamp,
) -> Result<Option<IssuedKubeconfig>> {
    let q = sql!(concat!(
        "UPDATE issued_kubeconfig SET revoked_at = COALESCE(revoked_at, $4), \
         collect_at = CASE WHEN revoked_at IS NULL THEN $4 ELSE collect_at END \
         WHERE id = $1 AND (tenant_id = $2 OR $2 IS NULL) AND (project_id = $3 OR $3 IS NULL) RETURNING ",
        columns!()
    ));
    let (tenant, project) = reach(scope);
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(id.0)
        .bind(tenant)
        .bind(project)
        .bind(Ts::from(now))
        .fetch_optional(x)
        .await)?)
}

/// Revokes all of a project that is going away; they are due for collection at once. Returns how many.
pub async fn revoke_project(c: &mut Conn<'_>, project_id: ProjectId, now: Timestamp) -> Result<u64> {
    let q = sql!(
        "UPDATE issued_kubeconfig SET revoked_at = $2, collect_at = $2 WHERE project_id = $1 AND revoked_at IS NULL"
    );
    Ok(on!(c, x => sqlx::query(q)
        .bind(project_id.0)
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}

/// The next cluster that any was issued for, by id.
pub async fn next_home(c: &mut Conn<'_>, after: Option<ClusterId>) -> Result<Option<ClusterId>> {
    let q = sql!("SELECT cluster_id FROM issued_kubeconfig WHERE cluster_id > $1 ORDER BY cluster_id LIMIT 1");
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let found: Option<Uuid> = on!(c, x => sqlx::query_scalar(q).bind(after).fetch_optional(x).await)?;
    Ok(found.map(ClusterId))
}

/// Those of a cluster whose Secret is to be deleted by `now`, longest waiting first: first what was revoked, or whose project went; then what
/// expired.
pub async fn due_for_collection(
    c: &mut Conn<'_>,
    home: ClusterId,
    now: Timestamp,
    rows: u32,
) -> Result<Vec<IssuedKubeconfig>> {
    let revoked = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM issued_kubeconfig WHERE cluster_id = $1 AND revoked_at IS NOT NULL AND collect_at <= $2 ORDER BY collect_at, id LIMIT $3"
    ));
    let expired = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM issued_kubeconfig WHERE cluster_id = $1 AND revoked_at IS NULL AND collect_at <= $2 ORDER BY collect_at, id LIMIT $3"
    ));
    let mut due: Vec<IssuedKubeconfig> = Vec::new();
    for q in [revoked, expired] {
        let room = rows.saturating_sub(u32::try_from(due.len()).unwrap_or(rows));
        if room > 0 {
            let found: Vec<IssuedKubeconfig> = on!(c, x => sqlx::query_as(q)
                .bind(home.0)
                .bind(Ts::from(now))
                .bind(limit(room))
                .fetch_all(x)
                .await)?;
            due.extend(found);
        }
    }
    Ok(due)
}

/// Puts collections off: their cluster does not answer, or says that it is too early.
pub async fn postpone(c: &mut Conn<'_>, ids: &[KubeconfigId], until: Timestamp) -> Result<()> {
    let q = c.pick(
        sql!(pg: "UPDATE issued_kubeconfig SET collect_at = $2 WHERE id = ANY($1)"),
        sql!(sqlite: "UPDATE issued_kubeconfig SET collect_at = $2 \
              WHERE id IN (SELECT unhex(value, '-') FROM json_each($1))"),
    );
    on!(c, x => sqlx::query(q).bind(many(ids)).bind(Ts::from(until)).execute(x).await.map(|_| ()))?;
    Ok(())
}

/// Removes the rows of those whose Secrets are gone; how many there were.
pub async fn remove(c: &mut Conn<'_>, ids: &[KubeconfigId]) -> Result<u64> {
    let q = c.pick(
        sql!(pg: "DELETE FROM issued_kubeconfig WHERE id = ANY($1)"),
        sql!(sqlite: "DELETE FROM issued_kubeconfig WHERE id IN (SELECT unhex(value, '-') FROM json_each($1))"),
    );
    Ok(on!(c, x => sqlx::query(q).bind(many(ids)).execute(x).await.map(|done| done.rows_affected()))?)
}

fn many(ids: &[KubeconfigId]) -> Many<Uuid> {
    Many(ids.iter().map(|id| id.0).collect())
}
