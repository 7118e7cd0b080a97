//! Registered clusters.
//!
//! Invariant: name and API server (`cluster_uid`) are unique among clusters that are not deleted; a deleted row stays, without its
//! credential. The sealed kubeconfig never travels with the row ([`kubeconfig`]).

mod reach;
mod read;
mod write;

pub use reach::{Reach, last_seen, reach, set_ready, set_seen, set_unreachable};
pub use read::{by_name, by_uid, count, get, get_any, ids, kubeconfig, list, sealed_with};
pub use write::{fail_bootstrap, insert, lock, mark_deleted, reseal, set_bootstrap, set_kubeconfig, take_back, update};

use crate::TextMap;
use crate::column::{Id, Maybe, Text, Ts};
use crate::statements::sql;
use jiff::Timestamp;
use kubeop_core::id::ClusterId;
use kubeop_core::name::Label;
use uuid::Uuid;

/// How far the bootstrap of a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootstrapState {
    /// Not asked for.
    None,
    /// Asked for, under way or to be retried.
    Pending,
    /// Done; a message says why a later upgrade failed.
    Done,
    /// Failed, and never done before; the message says why.
    Failed,
    /// What was installed is being removed: the cluster takes no new tenants.
    Removing,
}

impl BootstrapState {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Removing => "removing",
        }
    }
}

impl TryFrom<Text> for BootstrapState {
    type Error = crate::StoreError;

    fn try_from(text: Text) -> Result<Self, Self::Error> {
        [Self::None, Self::Pending, Self::Done, Self::Failed, Self::Removing]
            .into_iter()
            .find(|state| state.as_str() == text.0)
            .ok_or_else(|| crate::StoreError::Defect(format!("unknown bootstrap state {:?}", text.0)))
    }
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow, serde::Serialize)]
pub struct Cluster {
    /// Its id.
    #[sqlx(try_from = "Id")]
    pub id: ClusterId,
    /// Its name; immutable.
    #[sqlx(try_from = "Text")]
    pub name: Label,
    /// The caller's labels.
    #[sqlx(json)]
    pub labels: TextMap,
    /// The API server's address as the manager reaches it.
    pub server: String,
    /// The uid of its `kube-system` namespace.
    pub cluster_uid: String,
    /// The API server's address as tenants reach it, where that differs.
    pub public_server: Option<String>,
    /// Whether the manager installs the operator.
    pub auto_bootstrap: bool,
    /// Whether it installs the webhook too.
    pub install_admission: bool,
    /// Whether it configures the built-in stand-ins.
    pub with_mocks: bool,
    /// Rises with each change of what a caller set.
    pub version: i64,
    /// How far the bootstrap is.
    #[sqlx(try_from = "Text")]
    #[serde(skip)]
    pub bootstrap_state: BootstrapState,
    /// Why it is not further.
    #[serde(skip)]
    pub bootstrap_message: Option<String>,
    /// When it was registered.
    #[sqlx(try_from = "Ts")]
    pub created_at: Timestamp,
    /// When it was last changed by a caller.
    #[sqlx(try_from = "Ts")]
    pub updated_at: Timestamp,
    /// When it was deleted.
    #[sqlx(try_from = "Maybe<Ts>")]
    pub deleted_at: Option<Timestamp>,
}

/// An encrypted kubeconfig and the seed that opens it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Sealed {
    /// The id of the encryption seed.
    pub seed_id: Uuid,
    /// The ciphertext.
    #[sqlx(rename = "kubeconfig")]
    pub bytes: Vec<u8>,
}

macro_rules! columns {
    () => {
        "id, name, labels, server, cluster_uid, public_server, auto_bootstrap, install_admission, with_mocks, version, \
         bootstrap_state, bootstrap_message, created_at, updated_at, deleted_at"
    };
}
use columns;
