//! Which project holds a namespace of a cluster.
//!
//! Invariant: one holder per (cluster, namespace), decided by the primary key, whatever tenants ask at the same time.

use crate::column::Id;
use crate::{Conn, Inserted, Result, Taken, on, sql};
use kubeop_core::id::{ClusterId, ProjectId, TenantId};

/// Who holds a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Holder {
    /// The tenant.
    #[sqlx(try_from = "Id")]
    pub tenant_id: TenantId,
    /// The project.
    #[sqlx(try_from = "Id")]
    pub project_id: ProjectId,
}

/// Claims a namespace; `Taken` is [`Taken::Namespace`].
pub async fn claim(c: &mut Conn<'_>, cluster_id: ClusterId, namespace: &str, holder: Holder) -> Result<Inserted> {
    let q = sql!(
        "INSERT INTO namespace_claim (cluster_id, namespace, tenant_id, project_id) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (cluster_id, namespace) DO NOTHING"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(cluster_id.0)
        .bind(namespace)
        .bind(holder.tenant_id.0)
        .bind(holder.project_id.0)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(Inserted::from_rows(rows, Taken::Namespace))
}

/// Who holds it.
pub async fn holder(c: &mut Conn<'_>, cluster_id: ClusterId, namespace: &str) -> Result<Option<Holder>> {
    let q = sql!("SELECT tenant_id, project_id FROM namespace_claim WHERE cluster_id = $1 AND namespace = $2");
    Ok(on!(c, x => sqlx::query_as(q).bind(cluster_id.0).bind(namespace).fetch_optional(x).await)?)
}

/// Gives up what a project holds.
pub async fn release(c: &mut Conn<'_>, project_id: ProjectId) -> Result<()> {
    let q = sql!("DELETE FROM namespace_claim WHERE project_id = $1");
    on!(c, x => sqlx::query(q).bind(project_id.0).execute(x).await.map(|_| ()))?;
    Ok(())
}
