//! What goes from the database when an object is gone from its cluster, or is given up on.
//!
//! Invariant: an entity goes together with its desired-state row and its claims, in one transaction, which tells of its end.

use crate::events::outbox::{Happening, publish};
use crate::events::{About, of_app, of_project, of_tenant};
use crate::state::Manager;
use crate::sync::objects;
use kubeop_core::Result;
use kubeop_core::authz::system_scope;
use kubeop_core::id::TenantId;
use kubeop_store::app::{self, App};
use kubeop_store::project::{self, Project};
use kubeop_store::tenant::{self, Tenant};
use kubeop_store::{Conn, cluster_object, host_claim, issued_kubeconfig, namespace_claim};
use kubeop_store::{Filter, Page};

/// Forgets an app.
pub async fn app(manager: &Manager, conn: &mut Conn<'_>, row: &App) -> Result<()> {
    host_claim::release_all(conn, row.id).await?;
    app::remove(conn, row.tenant_id, row.id).await?;
    cluster_object::remove(conn, objects::app_key(row)).await?;
    tell(manager, conn, "app", &row.id, row.tenant_id, of_app(row)).await
}

/// Forgets a project, with whatever apps went with its namespace.
pub async fn project(manager: &Manager, conn: &mut Conn<'_>, row: &Project) -> Result<()> {
    let filter = Filter { project_id: Some(row.id), ..Filter::default() };
    loop {
        let apps = app::list(conn, system_scope(), &filter, &Page::first(500)).await?;
        if apps.is_empty() {
            break;
        }
        for gone in &apps {
            app(manager, conn, gone).await?;
        }
    }
    // Their Secrets may still be there, where the cluster was not asked: they go when it answers.
    issued_kubeconfig::revoke_project(conn, row.id, manager.clock.now()).await?;
    namespace_claim::release(conn, row.id).await?;
    project::remove(conn, row.tenant_id, row.id).await?;
    cluster_object::remove(conn, objects::project_key(row)).await?;
    tell(manager, conn, "project", &row.id, row.tenant_id, of_project(row)).await
}

/// Forgets a tenant, with whatever projects are left of it; its row stays, for invoices.
pub async fn tenant(manager: &Manager, conn: &mut Conn<'_>, row: &Tenant) -> Result<()> {
    let filter = Filter { tenant_id: Some(row.id), ..Filter::default() };
    loop {
        let projects = project::list(conn, system_scope(), &filter, &Page::first(500)).await?;
        if projects.is_empty() {
            break;
        }
        for gone in &projects {
            project(manager, conn, gone).await?;
        }
    }
    tenant::mark_deleted(conn, row.id, manager.clock.now()).await?;
    cluster_object::remove(conn, objects::tenant_key(row)).await?;
    tell(manager, conn, "tenant", &row.id, row.id, of_tenant(row)).await
}

async fn tell(
    manager: &Manager,
    conn: &mut Conn<'_>,
    kind: &'static str,
    id: &impl ToString,
    tenant: TenantId,
    about: About,
) -> Result<()> {
    let gone = Happening { tenant: Some(tenant), about, ..Happening::by_system(manager, "gone", kind, id) };
    publish(manager, conn, &gone).await
}
