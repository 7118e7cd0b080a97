//! Certificates: key and certificate for hosts of one App, in a Secret of its namespace.
//!
//! Invariant: a Secret is written only for hosts that the certificate's owner holds, and only where that owner's project is.

pub mod build;
pub mod status;
pub mod validate;

pub use build::{Material, secret};
pub use status::Progress;
pub use validate::{Surroundings, ValidCertificate, validate};
