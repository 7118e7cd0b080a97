//! Which app holds a host name, over all clusters: the manager's early answer (the cluster's DNSRecord decides).
//!
//! Invariant: one holder per host, decided by the primary key.

use crate::column::{Id, Text};
use crate::{Conn, Inserted, Result, Taken, on, sql};
use kubeop_core::id::{AppId, ProjectId, TenantId};
use kubeop_core::name::Host;

/// Who holds a host.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct HostClaim {
    /// The host.
    #[sqlx(try_from = "Text")]
    pub host: Host,
    /// The tenant.
    #[sqlx(try_from = "Id")]
    pub tenant_id: TenantId,
    /// The project.
    #[sqlx(try_from = "Id")]
    pub project_id: ProjectId,
    /// The app.
    #[sqlx(try_from = "Id")]
    pub app_id: AppId,
}

/// Claims a host; claiming again what one holds is `Yes`; `Taken` is [`Taken::Host`]. Claim several in sorted order.
pub async fn claim(c: &mut Conn<'_>, row: &HostClaim) -> Result<Inserted> {
    // The no-op update of one's own row counts as written; another app's row is left alone.
    let q = sql!(
        "INSERT INTO host_claim (host, tenant_id, project_id, app_id) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (host) DO UPDATE SET app_id = excluded.app_id WHERE host_claim.app_id = excluded.app_id"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.host.as_str())
        .bind(row.tenant_id.0)
        .bind(row.project_id.0)
        .bind(row.app_id.0)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(Inserted::from_rows(rows, Taken::Host))
}

/// Who holds it.
pub async fn get(c: &mut Conn<'_>, host: &str) -> Result<Option<HostClaim>> {
    let q = sql!("SELECT host, tenant_id, project_id, app_id FROM host_claim WHERE host = $1");
    Ok(on!(c, x => sqlx::query_as(q).bind(host).fetch_optional(x).await)?)
}

/// What an app holds.
pub async fn of_app(c: &mut Conn<'_>, app_id: AppId) -> Result<Vec<HostClaim>> {
    let q = sql!("SELECT host, tenant_id, project_id, app_id FROM host_claim WHERE app_id = $1");
    Ok(on!(c, x => sqlx::query_as(q).bind(app_id.0).fetch_all(x).await)?)
}

/// Gives up one host of an app; `false` if it did not hold it.
pub async fn release(c: &mut Conn<'_>, app_id: AppId, host: &str) -> Result<bool> {
    let q = sql!("DELETE FROM host_claim WHERE host = $1 AND app_id = $2");
    let rows = on!(c, x => sqlx::query(q)
        .bind(host)
        .bind(app_id.0)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Gives up all hosts of an app.
pub async fn release_all(c: &mut Conn<'_>, app_id: AppId) -> Result<()> {
    let q = c.pick(
        // Locked in order first: a DELETE alone takes rows as it finds them.
        sql!(pg: "WITH locked AS MATERIALIZED (SELECT host FROM host_claim WHERE app_id = $1 ORDER BY host FOR UPDATE) \
              DELETE FROM host_claim USING locked WHERE host_claim.host = locked.host AND app_id = $1"),
        sql!(sqlite: "DELETE FROM host_claim WHERE app_id = $1"),
    );
    on!(c, x => sqlx::query(q).bind(app_id.0).execute(x).await.map(|_| ()))?;
    Ok(())
}
