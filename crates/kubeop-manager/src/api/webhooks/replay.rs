//! `POST /v1/webhooks/dead/{id}/replay`.
//!
//! Invariant: the same event with the same id; it is tried for as long as a new one.

use super::answer;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::ManageWebhooks;
use crate::events::outbox::GIVE_UP_AFTER;
use crate::http::answer::Found;
use crate::http::body::NoBody;
use crate::http::error::ApiResult;
use crate::http::params::{ItemId, NoQuery};
use kubeop_api::event::DeadDelivery;
use kubeop_core::Error;
use kubeop_store::event_delivery;
use uuid::Uuid;

/// Sends a delivery that was given up again.
pub async fn handle(
    caller: Caller<ManageWebhooks>,
    ItemId(id): ItemId,
    _: NoQuery,
    _: NoBody,
) -> ApiResult<Found<DeadDelivery>> {
    let manager = &caller.manager;
    let absent = || Error::not_found(format!("there is no dead delivery {:?}", kubeop_core::id::shorten(&id)));
    let parsed = Uuid::try_parse(&id).map_err(|_| absent())?;
    let now = manager.clock.now();
    let mut tx = caller.change().await?;
    let row = event_delivery::replay(&mut tx.conn(), parsed, now, now + GIVE_UP_AFTER).await?.ok_or_else(absent)?;
    if manager.events.hook(&row.hook).is_none() {
        let hook = &row.hook;
        return Err(Error::conflict(format!("the hook {hook:?} is not configured: nothing would be sent")).into());
    }
    let deed = Deed {
        verb: "replay",
        kind: "delivery",
        id: row.id.to_string(),
        tenant: row.tenant_id,
        detail: format!("{} to {}", row.event_type, row.hook),
        ..Deed::default()
    };
    let answered = Found(answer(manager, row)?);
    caller.commit_answered(tx, deed, &answered).await?;
    Ok(answered)
}
