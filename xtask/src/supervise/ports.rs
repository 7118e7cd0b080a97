//! Free TCP ports on the loopback address. A port is free when asked, not reserved: whoever uses it must be ready to try another.

use std::net::TcpListener;

use anyhow::{Context, Result};

/// `count` different ports that nobody listens on now.
pub(crate) fn free(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<_, _>>()
        .context("cannot get a free port on 127.0.0.1")?;
    listeners.iter().map(|listener| Ok(listener.local_addr().context("cannot read a port back")?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_one_request_differ() {
        let mut ports = free(8).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 8);
    }
}
