//! The keeper of admission's certificate and configuration.
