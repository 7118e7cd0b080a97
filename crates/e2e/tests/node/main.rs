//! The product on a real node: pods, packets, faults. `cargo xtask test` runs these where a node can be had, one after the other.
#![expect(clippy::indexing_slicing, reason = "indexing a JSON value gives null where there is nothing")]

mod certificates;
mod chart;
mod chart_default;
mod faults;
mod hosts;
mod images;
mod manifests;
mod metrics;
mod packets;
mod seeds;
mod skew;
mod upgrade;
