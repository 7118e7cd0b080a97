//! The operations, one file each, by resource.
//!
//! Invariant: a handler decides, calls the store once or in one transaction, and maps; it holds no SQL and no Kubernetes objects.

pub mod analytics;
pub mod apps;
pub mod audit;
pub mod change;
pub mod clusters;
pub mod invoices;
pub mod kubeconfigs;
pub mod list;

pub mod platform;
pub mod policy;
pub mod projects;
pub mod status;
pub mod system;
pub mod tenants;
pub mod tokens;
pub mod usage;
pub mod webhooks;
