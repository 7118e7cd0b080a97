//! What a new installation begins with: its id, the first policy, the first prices.
//!
//! Invariant: what is there already is never replaced, but a changed rate follows the old one from the next hour on.

use crate::audit::digest;
use crate::config::Config;
use crate::events::Events;
use crate::events::outbox::{Happening, publish_to};
use jiff::{SignedDuration, Timestamp};
use kubeop_core::clock::{Clock, IdSource};
use kubeop_core::id::InstanceId;
use kubeop_core::policy::PlatformPolicy;
use kubeop_core::usage::{Meter, hour_of};
use kubeop_core::{Error, Result};
use kubeop_store::audit::{self, AuditRecord};
use kubeop_store::price::{self, Price};
use kubeop_store::{Inserted, Store, meta, platform_policy};

/// This installation's id, made once.
pub async fn instance(store: &Store, ids: &dyn IdSource) -> Result<InstanceId> {
    let mut tx = store.begin().await?;
    let id = meta::instance_id(&mut tx.conn(), InstanceId(ids.next())).await?;
    tx.commit().await?;
    Ok(id)
}

/// The first policy, from the configuration.
pub async fn policy(store: &Store, config: &Config, clock: &dyn Clock) -> Result<()> {
    PlatformPolicy::parse(&config.first_policy)?;
    let value = serde_json::to_value(&config.first_policy).map_err(Error::internal)?;
    let mut tx = store.begin().await?;
    platform_policy::put_if_absent(&mut tx.conn(), &value, clock.now()).await?;
    tx.commit().await?;
    Ok(())
}

/// The first prices, from the configuration. A rate that differs from what the configuration said last holds from the next whole hour on
/// that has no entry yet: the past keeps its price, and what was set through the API is neither undone by a restart nor replaced.
/// Such a change is on record, and told, as kubeOP's own.
pub async fn prices(
    store: &Store,
    config: &Config,
    clock: &dyn Clock,
    ids: &dyn IdSource,
    events: &Events,
) -> Result<()> {
    let mut tx = store.begin().await?;
    let rows = price::list(&mut tx.conn()).await?;
    let book = price::book(&mut tx.conn()).await?;
    if let Some(currency) = book.currency().filter(|currency| *currency != config.currency) {
        return Err(Error::invalid(format!(
            "KUBEOP_CURRENCY is {}, the price book is in {currency}: the currency of an installation cannot be changed",
            config.currency
        )));
    }
    for meter in Meter::ALL {
        let rate = match meter {
            Meter::CpuMilli => config.rate_cpu_milli,
            Meter::MemMib => config.rate_mem_mib,
        };
        let known: Vec<&Price> = rows.iter().filter(|row| row.meter == meter.name()).collect();
        let told = known.iter().rev().find(|row| row.origin == price::ENVIRONMENT);
        let mut from = match told {
            None => Timestamp::UNIX_EPOCH,
            Some(told) if told.rate == rate => continue,
            // After what the configuration set before, also if that was in this very hour.
            Some(told) => next_hour(clock.now()).max(told.effective_from),
        };
        while known.iter().any(|row| row.effective_from == from) {
            from = next_hour(from);
        }
        let row = Price {
            meter: meter.name().to_owned(),
            effective_from: from,
            rate,
            currency: config.currency.to_string(),
            origin: price::ENVIRONMENT.to_owned(),
        };
        // Another replica may just have set it: that one stands.
        if price::insert(&mut tx.conn(), &row).await? == Inserted::Yes && told.is_some() {
            let object = format!("{}@{}", row.meter, row.effective_from);
            let happening = Happening {
                detail: format!("{} {}, as configured", row.rate, row.currency),
                ..Happening::by_system_at(clock.now(), ids.next(), "create", "price", &object)
            };
            audit::append(&mut tx.conn(), &record(&row, &happening)?).await?;
            publish_to(events, ids, &mut tx.conn(), &happening).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

fn record(row: &Price, happening: &Happening) -> Result<AuditRecord> {
    Ok(AuditRecord {
        id: happening.id,
        at: happening.at,
        subject: happening.actor.subject.clone(),
        role: happening.actor.role.claim().to_owned(),
        tenant_id: None,
        action: happening.action.to_owned(),
        object_kind: happening.kind.to_owned(),
        object_id: happening.object.clone(),
        outcome: "done".to_owned(),
        request_id: String::new(),
        before_digest: None,
        after_digest: Some(digest::of(row)?),
        detail: happening.detail.clone(),
        seal: None,
    })
}

/// The first whole hour after `time`.
pub fn next_hour(time: Timestamp) -> Timestamp {
    hour_of(time).checked_add(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MAX)
}
