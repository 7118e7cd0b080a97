//! Tenants.
//!
//! Invariant: a name is unique among tenants that are not deleted; a deleted row stays, because invoices need its name and the period in
//! which it existed.

mod list;
mod read;
mod write;

pub use list::list;
pub use read::{Period, by_name, count, count_in_cluster, get, get_any, get_many, periods};
pub use write::{insert, lock, mark_deleted, mark_deleting, update};

use crate::TextMap;
use crate::column::{Id, Maybe, Text, Ts};
use crate::statements::sql;
use jiff::Timestamp;
use kubeop_core::id::{ClusterId, TenantId};
use kubeop_core::name::Label;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow, serde::Serialize)]
pub struct Tenant {
    /// Its id.
    #[sqlx(try_from = "Id")]
    pub id: TenantId,
    /// The cluster it is on; immutable.
    #[sqlx(try_from = "Id")]
    pub cluster_id: ClusterId,
    /// Its name; immutable.
    #[sqlx(try_from = "Text")]
    pub name: Label,
    /// The envelope, as the caller wrote it.
    #[sqlx(json)]
    pub quotas: TextMap,
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
    /// When it was gone.
    #[sqlx(try_from = "Maybe<Ts>")]
    pub deleted_at: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "id, cluster_id, name, quotas, labels, version, created_at, updated_at, deleting_at, deleted_at"
    };
}
use columns;
