//! The wire types of the REST API: requests, answers, and the tolerant reading of field names.
//!
//! Invariant: answers are `snake_case` and requests match ignoring case, `_` and `-`; the tolerance is for our field names, never for keys that are data.

pub mod app;
pub mod billing;
pub mod cluster;
pub mod credential;
pub mod event;
pub mod platform;
pub mod policy;
pub mod project;
pub mod resource;
pub mod samples;
pub mod strict_json;
pub mod tenant;
pub mod tolerant;
