//! Talking to one cluster: closed kubeconfig → client, and what the manager and the operator do over it.
//!
//! Invariant: every failure of a cluster comes out as a domain error that says what was being done (`error`), and every wait is bounded.

pub mod address;
pub mod apply;
pub mod bootstrap;
pub mod certificate;
pub mod client;
pub mod clock;
pub mod cluster_dns;
mod contents;
pub mod credential;
pub mod error;
pub mod gateway;
pub mod hpa;
pub mod kubeconfig;
pub mod lease;
pub mod mirror;
pub mod policy;
pub mod probe;
pub mod status;
pub mod uninstall;
