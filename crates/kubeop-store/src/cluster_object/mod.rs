//! Desired state of the custom resources the manager owns: one row each, that says which version of it is wanted and which was applied.
//!
//! Invariant: `wanted` only rises, in the transaction of the change that needs it; `applied` is set to the version that was rendered, so
//! that a change made meanwhile stays due. Rows of one statement are locked in order of (kind, entity).

mod mark;
mod observe;
mod read;
mod work;

pub use mark::lock_order;
pub use mark::{Mark, mark, mark_deleted, mark_kind, mark_many};
pub use observe::{Observation, observe_many};
pub use read::{State, counts, due, get, list_for_entities, next_due_at, states};
pub use work::{
    Ahead, Failure, Settled, again, begin, fail, outrun, postpone, remove, settle_many, wake_all, wake_apps,
};

use crate::column::{Id, Maybe, Text, Ts};
use crate::statements::sql;
use jiff::Timestamp;
use kubeop_core::id::ClusterId;
use uuid::Uuid;

/// The kinds of custom resources the manager owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// The platform policy on a cluster; its entity id is the cluster's.
    Policy,
    /// A tenant.
    Tenant,
    /// A project.
    Project,
    /// An app.
    App,
}

impl ObjectKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Policy, Self::Tenant, Self::Project, Self::App];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Tenant => "tenant",
            Self::Project => "project",
            Self::App => "app",
        }
    }
}

impl TryFrom<Text> for ObjectKind {
    type Error = crate::StoreError;

    fn try_from(text: Text) -> Result<Self, Self::Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text.0)
            .ok_or_else(|| crate::StoreError::Defect(format!("unknown kind of object {:?}", text.0)))
    }
}

/// Which row: the resource of an entity on a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The kind.
    pub kind: ObjectKind,
    /// The entity's id.
    pub entity_id: Uuid,
}

/// A row, with what was last observed of the resource.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct ClusterObject {
    /// The cluster.
    #[sqlx(try_from = "Id")]
    pub cluster_id: ClusterId,
    /// The kind.
    #[sqlx(try_from = "Text")]
    pub kind: ObjectKind,
    /// The entity's id.
    pub entity_id: Uuid,
    /// The resource's name.
    pub name: String,
    /// Its namespace, if its kind has one.
    pub namespace: Option<String>,
    /// The version that is wanted.
    pub wanted: i64,
    /// The highest version that was applied; 0: none yet.
    pub applied: i64,
    /// It is to be deleted. The row stays due until the resource is gone and [`remove`] is called.
    pub deleted: bool,
    /// A write of it to the cluster was begun at some time, so that it may exist there.
    pub attempted: bool,
    /// Failures since the last change.
    pub attempts: i64,
    /// Not to be tried before.
    #[sqlx(try_from = "Ts")]
    pub next_attempt_at: Timestamp,
    /// What the last failure said.
    pub last_error: Option<String>,
    /// The resource's uid, once applied.
    pub uid: Option<String>,
    /// When `wanted` last rose.
    #[sqlx(try_from = "Ts")]
    pub changed_at: Timestamp,
    /// The resource's status when last seen.
    #[sqlx(json(nullable))]
    pub observed: Option<serde_json::Value>,
    /// Its uid when last seen.
    pub observed_uid: Option<String>,
    /// When that was.
    #[sqlx(try_from = "Maybe<Ts>")]
    pub observed_at: Option<Timestamp>,
}

impl ClusterObject {
    /// Which row it is.
    pub fn key(&self) -> Key {
        Key { cluster_id: self.cluster_id, kind: self.kind, entity_id: self.entity_id }
    }

    /// Whether the cluster has what is wanted, as far as was recorded.
    pub fn is_synced(&self) -> bool {
        self.applied >= self.wanted && !self.deleted
    }
}

/// The columns of a row `o` joined with its observation `s`.
macro_rules! columns {
    () => {
        "o.cluster_id, o.kind, o.entity_id, o.name, o.namespace, o.wanted, o.applied, o.deleted, o.attempted, o.attempts, \
         o.next_attempt_at, o.last_error, o.uid, o.changed_at, s.status AS observed, s.uid AS observed_uid, s.observed_at"
    };
}
use columns;

macro_rules! joined {
    () => {
        "cluster_object o LEFT JOIN cluster_observed s \
         ON s.cluster_id = o.cluster_id AND s.kind = o.kind AND s.entity_id = o.entity_id"
    };
}
use joined;
