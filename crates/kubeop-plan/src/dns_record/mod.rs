//! DNSRecords: a host name, and the answer that its provider is to give for it.
//!
//! Invariant: an [`Entry`] holds only what was parsed (a host, addresses or a host), so that it can stand in any provider's configuration.

pub mod corefile;
pub mod status;
pub mod target;
pub mod validate;

pub use status::Progress;
pub use target::{Answer, Found};
pub use validate::{Surroundings, validate};

use kubeop_core::name::Host;

/// Seconds that resolvers keep an answer whose DNSRecord does not say.
pub const DEFAULT_TTL: u32 = 30;

/// What a provider is to answer for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The host.
    pub host: Host,
    /// What it leads to.
    pub answer: Answer,
    /// Seconds that resolvers may keep it.
    pub ttl: u32,
}
