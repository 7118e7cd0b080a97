//! From custom resources to Kubernetes objects: validate, then build, per kind; and the objects of an installation.
//!
//! Invariant: nothing here waits or talks; the same inputs give the same objects, byte for byte, so that an apply without change is no change.

pub mod app;
pub mod certificate;
pub mod dns_record;
pub mod identity;
pub mod install;
pub mod policy;
pub mod project;
pub mod providers;
pub mod refusal;
pub mod resources;
pub mod tenant;

#[cfg(test)]
mod fixture;

pub use identity::Identity;
pub use refusal::{Refusal, Validated};
pub use resources::{Applied, Object, Prepared};
