//! Apps.
//!
//! Invariant: a name is unique within its project; the row is removed when the app is gone. Its hosts are held by `host_claim`s, apart.

mod list;
mod read;
mod write;

pub use list::{Listed, list, list_page};
pub use read::{Delivery, by_name, count, count_by_tenant, count_in_project, deliveries, get, get_many, projects_of};
pub use write::{insert, mark_deleting, remove, update};

use crate::TextMap;
use crate::column::{Id, Maybe, Text, Ts};
use crate::statements::sql;
use jiff::Timestamp;
use kubeop_core::id::{AppId, ClusterId, ProjectId, TenantId};
use kubeop_core::name::Label;

/// An app.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow, serde::Serialize)]
pub struct App {
    /// Its project's tenant; immutable.
    #[sqlx(try_from = "Id")]
    pub tenant_id: TenantId,
    /// Its id.
    #[sqlx(try_from = "Id")]
    pub id: AppId,
    /// Its project; immutable.
    #[sqlx(try_from = "Id")]
    pub project_id: ProjectId,
    /// Its project's cluster; immutable.
    #[sqlx(try_from = "Id")]
    pub cluster_id: ClusterId,
    /// Its name; immutable.
    #[sqlx(try_from = "Text")]
    pub name: Label,
    /// The App resource's spec.
    #[sqlx(json)]
    pub spec: serde_json::Value,
    /// The caller's labels.
    #[sqlx(json)]
    pub labels: TextMap,
    /// Rises with each change.
    pub version: i64,
    /// When it was made.
    #[sqlx(try_from = "Ts")]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[sqlx(try_from = "Ts")]
    pub updated_at: Timestamp,
    /// When deleting it was asked for.
    #[sqlx(try_from = "Maybe<Ts>")]
    pub deleting_at: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "tenant_id, id, project_id, cluster_id, name, spec, labels, version, created_at, updated_at, deleting_at"
    };
}
use columns;
