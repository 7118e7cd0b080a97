//! How large the spec of an App may be.
//!
//! Invariant: what is accepted can be stored by a cluster (etcd takes 1.5 MiB an object), and a page of Apps can be read back, however many
//! tenants fill theirs.

use kubeop_core::{Error, Result};
use serde::Serialize;
use std::io::{self, Write};

/// Bytes that the spec of an App may have as JSON.
pub const MOST: usize = 256 << 10;
/// Bytes that it may have where it brings manifests along.
pub const MOST_WITH_MANIFESTS: usize = 1 << 20;

/// Checks the size of a spec, written as JSON without blanks.
///
/// # Errors
/// A message that names the size and the limit.
pub fn check_size(spec: &impl Serialize, has_manifests: bool) -> Result<()> {
    let most = if has_manifests { MOST_WITH_MANIFESTS } else { MOST };
    let mut size = Size(0);
    serde_json::to_writer(&mut size, spec).map_err(Error::internal)?;
    if size.0 <= most {
        return Ok(());
    }
    Err(Error::invalid(format!("spec: has {} bytes as JSON: at most {most} are allowed", size.0)))
}

/// Counts what is written.
struct Size(usize);

impl Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_limit_is_exact_and_named() {
        let spec = |bytes: usize| json!({"a": "x".repeat(bytes - json!({"a": ""}).to_string().len())});
        assert!(check_size(&spec(MOST), false).is_ok() && check_size(&spec(MOST + 1), true).is_ok());
        let message = check_size(&spec(MOST + 1), false).unwrap_err().message().to_owned();
        assert_eq!(message, "spec: has 262145 bytes as JSON: at most 262144 are allowed");
        assert!(check_size(&spec(MOST_WITH_MANIFESTS + 1), true).is_err());
    }
}
