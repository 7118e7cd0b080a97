//! Projects.
//!
//! Invariant: a name is unique within its tenant; the row is removed when the project is gone. Its namespace is held by a
//! `namespace_claim`, apart.

mod list;
mod read;
mod write;

pub use list::list;
pub use read::{
    Grant, Namespace, Owner, by_name, count, count_by_tenant, count_in_tenant, get, get_many, grants, namespaces,
    namespaces_of, owners,
};
pub use write::{insert, lock, mark_deleting, remove, update};

use crate::TextMap;
use crate::column::{Id, Maybe, Text, Ts};
use crate::statements::sql;
use jiff::Timestamp;
use kubeop_core::id::{ClusterId, ProjectId, TenantId};
use kubeop_core::name::Label;

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow, serde::Serialize)]
pub struct Project {
    /// Its tenant; immutable.
    #[sqlx(try_from = "Id")]
    pub tenant_id: TenantId,
    /// Its id.
    #[sqlx(try_from = "Id")]
    pub id: ProjectId,
    /// Its tenant's cluster; immutable.
    #[sqlx(try_from = "Id")]
    pub cluster_id: ClusterId,
    /// Its name; immutable.
    #[sqlx(try_from = "Text")]
    pub name: Label,
    /// Its namespace; immutable.
    #[sqlx(try_from = "Text")]
    pub namespace: Label,
    /// The quotas the caller asked for, as written; none = a slice of the tenant's envelope.
    #[sqlx(json(nullable))]
    pub quotas: Option<TextMap>,
    /// What it was granted.
    #[sqlx(json)]
    pub granted: TextMap,
    /// The Pod Security level: `baseline` or `restricted`.
    pub pod_security: String,
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
        "tenant_id, id, cluster_id, name, namespace, quotas, granted, pod_security, labels, version, created_at, updated_at, \
         deleting_at"
    };
}
use columns;
