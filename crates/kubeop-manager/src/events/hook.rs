//! A hook: a URL that is told of events, and the secret that proves who tells.
//!
//! Invariant: a hook has a secret; what is sent unsigned could come from anybody.

use crate::config::Config;
use http::Uri;
use kubeop_core::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::sync::Arc;
use tokio::sync::Notify;

/// The hook that is told of everything.
pub const EVENTS: &str = "events";
/// The hook that is told of clusters that became ready.
pub const CLUSTER_READY: &str = "cluster-ready";
/// What the latter is told.
pub const CLUSTER_READY_TYPE: &str = "io.kubeop.cluster.ready";

/// Bytes a secret has at least.
const MIN_SECRET: usize = 16;

/// Where a hook is, as it is configured.
#[derive(Clone)]
pub struct Target {
    url: Uri,
    secret: SecretString,
}

impl Target {
    /// Reads a URL and its secret.
    ///
    /// # Errors
    /// A sentence without the URL's path and query, which may hold a secret.
    pub fn parse(url: &str, secret: SecretString) -> Result<Self> {
        let refuse =
            |why: &str| Error::invalid(format!("the URL {why}: http:// or https://, a host and a path are needed"));
        let parsed: Uri = url.trim().parse().map_err(|_| refuse("cannot be read"))?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) {
            return Err(refuse("begins with neither http:// nor https://"));
        }
        let authority = parsed.authority().ok_or_else(|| refuse("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("holds a user name, which is not sent"));
        }
        let length = secret.expose_secret().len();
        if length < MIN_SECRET {
            return Err(Error::invalid(format!("the secret has {length} bytes: at least {MIN_SECRET} are needed")));
        }
        Ok(Self { url: parsed, secret })
    }

    /// Whether what is sent there can be read on the way.
    pub fn is_open(&self) -> bool {
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.url.scheme_str() == Some("http") && !here
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("host", &self.url.host()).finish_non_exhaustive()
    }
}

/// A hook.
#[derive(Debug)]
pub struct Hook {
    /// Its name in the database and in the API.
    pub name: &'static str,
    target: Target,
    /// Rings when there is something new.
    pub(super) bell: Notify,
}

impl Hook {
    /// Whether it is told of events of this type.
    pub fn wants(&self, event_type: &str) -> bool {
        self.name == EVENTS || event_type == CLUSTER_READY_TYPE
    }

    /// Where it is.
    pub(super) fn url(&self) -> &Uri {
        &self.target.url
    }

    /// What is sent to it is signed with.
    pub(super) fn secret(&self) -> &[u8] {
        self.target.secret.expose_secret().as_bytes()
    }
}

/// The hooks of a configuration.
pub(super) fn of(config: &Config) -> Vec<Arc<Hook>> {
    [(EVENTS, &config.event_hook), (CLUSTER_READY, &config.cluster_ready_hook)]
        .into_iter()
        .filter_map(|(name, target)| Some(Arc::new(Hook { name, target: target.clone()?, bell: Notify::new() })))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_or_no_secret_is_refused_without_repeating_it() {
        let secret = || SecretString::from("0123456789abcdef");
        for good in ["https://hooks.example.com/a?token=x", "http://127.0.0.1:9000", " http://[::1]:1/ "] {
            assert!(Target::parse(good, secret()).is_ok(), "{good}");
        }
        for bad in
            ["", "hooks.example.com/s3cret", "ftp://a/s3cret", "https://", "https://u:s3cret@a/", "https://a b/s3cret"]
        {
            let told = Target::parse(bad, secret()).unwrap_err().message().to_owned();
            assert!(!told.contains("s3cret"), "{told}");
        }
        assert!(Target::parse("https://a/", SecretString::from("short")).is_err());
        let shown =
            format!("{:?}", Target::parse("https://a/?t=s3cret", SecretString::from("s3crets3crets3cret")).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn plain_http_is_open_but_for_this_machine() {
        let open = |url: &str| Target::parse(url, SecretString::from("0123456789abcdef")).unwrap().is_open();
        assert!(open("http://receiver.example.com/"));
        for closed in ["https://receiver.example.com/", "http://localhost/", "http://127.0.0.1:1/", "http://[::1]/"] {
            assert!(!open(closed), "{closed}");
        }
    }
}
