//! `GET` and `POST /v1/platform/prices`: the price book.
//!
//! Invariant: a price is only ever added, and only for hours to come, so that what was used keeps its price.

use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::ManagePrices;
use crate::http::answer::{Created, Found};
use crate::http::body::Body;
use crate::http::error::ApiResult;
use crate::http::params::NoQuery;
use crate::jobs::first_start::next_hour;
use jiff::Timestamp;
use kubeop_api::billing::{PriceEntry, PriceInput};
use kubeop_core::id::shorten;
use kubeop_core::price::parse_rate;
use kubeop_core::rfc3339;
use kubeop_core::usage::{Meter, hour_of};
use kubeop_core::{Error, Result};
use kubeop_store::price::{self, Price};

/// The price book, oldest first.
pub async fn list(caller: Caller<ManagePrices>, _: NoQuery) -> ApiResult<Found<Vec<PriceEntry>>> {
    let rows = price::list(&mut caller.read().await?.conn()).await?;
    Ok(Found(rows.into_iter().map(answer).collect()))
}

/// Adds a price.
pub async fn add(
    caller: Caller<ManagePrices>,
    _: NoQuery,
    Body(input): Body<PriceInput>,
) -> ApiResult<Created<PriceEntry>> {
    let manager = &caller.manager;
    let row = read(&input, manager.clock.now(), manager.config.currency.to_string())?;
    let mut tx = caller.change().await?;
    price::insert(&mut tx.conn(), &row).await?.or_conflict(|_| {
        format!(
            "{} has a price from {} on already: a price is not changed, add a later one",
            row.meter, row.effective_from
        )
    })?;
    let deed = Deed {
        verb: "create",
        kind: "price",
        id: format!("{}@{}", row.meter, row.effective_from),
        after: Some(digest::of(&row)?),
        detail: format!("{} {}", row.rate, row.currency),
        ..Deed::default()
    };
    let created = Created { item: answer(row), version: 1, location: "/v1/platform/prices".to_owned() };
    caller.commit_answered(tx, deed, &created).await?;
    Ok(created)
}

fn read(input: &PriceInput, now: Timestamp, currency: String) -> Result<Price> {
    let meter = Meter::parse(&input.meter).ok_or_else(|| {
        let known = Meter::ALL.map(Meter::name).join(" or ");
        Error::invalid(format!("meter: {:?} is not known: {known}", shorten(&input.meter)))
    })?;
    let rate = parse_rate(&input.rate).map_err(|e| e.at("rate"))?;
    let next = next_hour(now);
    let from = match input.effective_from.as_deref() {
        None => next,
        Some(text) => rfc3339::parse(text).map_err(|e| e.at("effective_from"))?,
    };
    if hour_of(from) != from {
        return Err(Error::invalid(format!("effective_from: {from} is not a whole hour")));
    }
    if from < next {
        return Err(Error::invalid(format!(
            "effective_from: {from} is not to come: {next} at the earliest, since the past keeps its price"
        )));
    }
    Ok(Price {
        meter: meter.name().to_owned(),
        effective_from: from,
        rate: rate.normalize(),
        currency,
        origin: price::API.to_owned(),
    })
}

fn answer(row: Price) -> PriceEntry {
    PriceEntry {
        meter: row.meter,
        rate: row.rate.to_string(),
        currency: row.currency,
        effective_from: row.effective_from,
        origin: row.origin,
    }
}
