//! What a new installation begins with: its id, the first policy, the first prices.
//!
//! Invariant: what is there already is never replaced, but a changed rate follows the old one from the next hour on.

use crate::config::Config;
use jiff::{SignedDuration, Timestamp};
use kubeop_core::clock::{Clock, IdSource};
use kubeop_core::id::InstanceId;
use kubeop_core::policy::PlatformPolicy;
use kubeop_core::price::{Currency, Price, PriceBook};
use kubeop_core::usage::{Meter, hour_of};
use kubeop_core::{Error, Result};
use kubeop_store::{Conn, Store, meta, platform_policy, price};
use rust_decimal::Decimal;

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

/// The first prices, from the configuration; a rate that differs from the latest holds from the next hour on.
pub async fn prices(store: &Store, config: &Config, clock: &dyn Clock) -> Result<()> {
    let mut tx = store.begin().await?;
    let book = price_book(&mut tx.conn()).await?;
    let next_hour = hour_of(clock.now()) + SignedDuration::from_hours(1);
    for meter in Meter::ALL {
        let rate = match meter {
            Meter::CpuMilli => config.rate_cpu_milli,
            Meter::MemMib => config.rate_mem_mib,
        };
        let from = match book.at(meter, Timestamp::MAX) {
            None => Timestamp::UNIX_EPOCH,
            Some(latest) if latest.currency != config.currency => {
                return Err(Error::invalid(format!(
                    "KUBEOP_CURRENCY is {}, the price book is in {}: the currency of an installation cannot be changed",
                    config.currency, latest.currency
                )));
            }
            Some(latest) if latest.rate == rate => continue,
            Some(_) => next_hour,
        };
        insert(&mut tx.conn(), meter, from, rate, config.currency).await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn insert(conn: &mut Conn<'_>, meter: Meter, from: Timestamp, rate: Decimal, currency: Currency) -> Result<()> {
    let row =
        price::Price { meter: meter.name().to_owned(), effective_from: from, rate, currency: currency.to_string() };
    // Another replica, or a start before in this hour, may have set it: that one stands.
    let _ = price::insert(conn, &row).await?;
    Ok(())
}

/// The price book as it is stored.
pub async fn price_book(conn: &mut Conn<'_>) -> Result<PriceBook> {
    let entries = price::list(conn)
        .await?
        .into_iter()
        .map(|row| {
            let meter = Meter::parse(&row.meter)
                .ok_or_else(|| Error::internal(format!("a price of an unknown meter {:?}", row.meter)))?;
            let currency = Currency::parse(&row.currency)?;
            Ok(Price { meter, effective_from: row.effective_from, rate: row.rate, currency })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(PriceBook::new(entries))
}
