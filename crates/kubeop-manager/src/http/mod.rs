//! HTTP at the border: reading requests, writing answers, and what surrounds every request.
//!
//! Invariant: every answer, also of a panic or an unknown path, has the shapes of the API contract.

pub mod accept;
pub mod answer;
pub mod body;
mod connection;
pub mod error;
pub mod gate;
pub mod idempotency;
pub mod if_match;
pub mod layers;
pub mod params;
pub mod room;
pub mod server;
