//! Invoices of tenants.
//!
//! Invariant: a closed month is answered from its frozen rows, for ever the same; an open one from the usage and the price book.

mod csv;
pub mod get;
pub mod list;
