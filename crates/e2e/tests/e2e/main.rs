//! End-to-end tests.
mod walkthrough;
