//! OCI images without a container engine: layers, configuration, the image layout, its archive, and pushing it to a registry.
//! Specification: <https://github.com/opencontainers/image-spec>, version 1.1.
//!
//! Invariant: the same inputs give the same bytes, so the same digests: no clock, host name, user or directory order gets in.

pub(crate) mod archive;
pub(crate) mod config;
pub(crate) mod debian;
pub(crate) mod digest;
pub(crate) mod elf;
pub(crate) mod layer;
pub(crate) mod layout;
pub(crate) mod push;
pub(crate) mod rfc3339;
