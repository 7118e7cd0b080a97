//! The domain of kubeOP: values, decisions and arithmetic, free of I/O.
//!
//! Invariant: nothing here waits, reads a clock, draws a random number or knows a transport; every function's answer follows from its arguments.

pub mod authz;
pub mod cidr;
pub mod clock;
pub mod error;
pub mod hex;
pub mod id;
pub mod image;
pub mod invoice;
pub mod month;
pub mod name;
pub mod policy;
pub mod price;
pub mod quantity;
pub mod quota;
pub mod rfc3339;
pub mod usage;

pub use error::{Error, ErrorKind, Result};
