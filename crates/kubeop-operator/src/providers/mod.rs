//! Who publishes host names and issues certificates, one file a provider.
//!
//! Invariant: a provider decides nothing about who may have what: it gets entries and requests that were validated.

mod cluster_zone;
mod self_signed;

pub(crate) use cluster_zone::{ClusterZone, keep as keep_zone};
pub(crate) use self_signed::{Authority, SelfSigned};
