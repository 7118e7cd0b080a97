//! Events on their way to hooks: the outbox, and the dead letters.
//!
//! Invariant: a delivery is written in the transaction of the change it tells of and leaves only when it was delivered, or when its time
//! as a dead letter is over; of one subject, at most the oldest delivery that is not dead is carried out.

mod dead;
mod queue;

pub use dead::{DeadFilter, count_dead, expire, get_dead, list_dead, remove_dead, replay};
pub use queue::{
    Failure, Figures, Line, Settled, claim, delivered, figures, give_up, is_due, next_of, postpone, put, release,
    release_all, stranded,
};

use crate::column::{Id, Maybe, Ts};
use crate::sql;
use jiff::Timestamp;
use kubeop_core::id::TenantId;
use serde_json::Value;
use uuid::Uuid;

/// A delivery.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct EventDelivery {
    /// Its place: of one subject, a later change has a higher one.
    pub seq: i64,
    /// Its id.
    pub id: Uuid,
    /// Where it goes.
    pub hook: String,
    /// The event's id, the same for every hook.
    pub event_id: Uuid,
    /// What happened.
    pub event_type: String,
    /// To what: kind and id.
    pub subject: String,
    /// The tenant it is about; none: the platform.
    #[sqlx(try_from = "Maybe<Id>")]
    pub tenant_id: Option<TenantId>,
    /// What else is told; no secrets.
    #[sqlx(json)]
    pub data: Value,
    /// When it happened.
    #[sqlx(try_from = "Ts")]
    pub occurred_at: Timestamp,
    /// When it is given up.
    #[sqlx(try_from = "Ts")]
    pub give_up_at: Timestamp,
    /// When it is due.
    #[sqlx(try_from = "Ts")]
    pub next_at: Timestamp,
    /// The process that is carrying it out.
    pub claimed_by: Option<Uuid>,
    /// How often it was tried.
    pub attempts: i64,
    /// The HTTP status of the last attempt, if there was an answer.
    pub last_status: Option<i64>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it was given up.
    #[sqlx(try_from = "Maybe<Ts>")]
    pub dead_at: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "seq, id, hook, event_id, event_type, subject, tenant_id, data, occurred_at, give_up_at, next_at, claimed_by, attempts, \
         last_status, last_error, dead_at"
    };
}

use columns;
