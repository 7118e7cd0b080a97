//! Deliveries of events that were given up: looked at and sent again by the platform team.
//!
//! Invariant: read and replayed by admins alone; an event holds no secret.

pub mod dead;
pub mod replay;

use crate::events::outbox;
use crate::state::Manager;
use kubeop_api::event::DeadDelivery;
use kubeop_core::Result;
use kubeop_store::event_delivery::EventDelivery;

fn answer(manager: &Manager, row: EventDelivery) -> Result<DeadDelivery> {
    Ok(DeadDelivery {
        id: row.id,
        event: outbox::event(manager.instance, &row)?,
        hook: row.hook,
        attempts: row.attempts,
        last_status: row.last_status,
        last_error: row.last_error.unwrap_or_default(),
        dead_at: row.dead_at,
    })
}
