//! End-to-end tests: the product as its users see it, against a real API server, real databases and stock clients. `cargo xtask test` brings what they need.
#![expect(clippy::indexing_slicing, reason = "indexing a JSON value gives null where there is nothing")]

mod access;
mod audit;
mod backup;
mod canary;
mod cert_manager;
mod chart;
mod chart_life;
mod compose;
mod crash;
mod deleting;
mod disaster;
mod events;
mod install;
mod interrupted;
mod keys;
mod mocks;
mod openapi;
mod operations;
mod outage;
mod policy;
mod replicas;
mod samples;
mod shutdown;
mod storms;
mod taken_away;
mod walkthrough;
