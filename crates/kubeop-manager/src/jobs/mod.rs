//! What the manager does beside requests and sync: the first start, collecting what ended, and closing months.
//!
//! Invariant: every job may run on any replica, repeatedly, and be interrupted at any point.

pub mod answers;
pub mod credentials;
pub mod first_start;
pub mod invoices;
