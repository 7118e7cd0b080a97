//! The manager's configuration, already parsed: the executable reads the environment, this crate never does.
//!
//! Invariant: every value here is valid.

use crate::events::hook::Target;
use crate::keys::MasterKeys;
use jiff::SignedDuration;
use kubeop_cluster::address::AddressPolicy;
use kubeop_core::Result;
use kubeop_core::policy::RawPolicy;
use kubeop_core::price::Currency;
use kubeop_plan::install::MetricsServer;
use rust_decimal::Decimal;
use secrecy::SecretSlice;
use std::time::Duration;

/// Where metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsHome {
    /// With the API, to everybody who reaches it.
    Api,
    /// At an address of their own.
    Apart,
}

/// Everything the manager is told at start.
pub struct Config {
    /// Whether callers must show a token.
    pub require_auth: bool,
    /// Keys of tokens: the first signs, every one verifies.
    pub signing_keys: Vec<SecretSlice<u8>>,
    /// The key that wraps what is stored encrypted: 32 bytes.
    pub master_key: SecretSlice<u8>,
    /// The one before, still accepted during a rotation.
    pub master_key_previous: Option<SecretSlice<u8>>,
    /// The addresses that registered API servers may have.
    pub servers: AddressPolicy,
    /// Accept kubeconfigs that skip TLS verification.
    pub insecure: bool,
    /// The policy of a new installation.
    pub first_policy: RawPolicy,
    /// Amount per millicore-hour.
    pub rate_cpu_milli: Decimal,
    /// Amount per MiB-hour.
    pub rate_mem_mib: Decimal,
    /// Currency of invoices.
    pub currency: Currency,
    /// How long after its end a month takes in late usage.
    pub invoice_grace: SignedDuration,
    /// Requests per second and caller; 0 = no limit.
    pub rate_limit: u32,
    /// How long the API is served after the end began, for callers who do not know of it yet; `/readyz` is 503 from the begin.
    pub linger: Duration,
    /// Where metrics are served.
    pub metrics: MetricsHome,
    /// The image of operator and admission in clusters.
    pub operator_image: String,
    /// The metrics server that is installed where one is asked for.
    pub metrics_server: MetricsServer,
    /// Bring every cluster's installation up to date once after the start.
    pub bootstrap_on_start: bool,
    /// Where a loopback API server is looked for if loopback does not answer (a container's way to its machine); none = nowhere.
    pub host_gateway: Option<String>,
    /// Who is told of everything that happens.
    pub event_hook: Option<Target>,
    /// Who is told of clusters that became ready.
    pub cluster_ready_hook: Option<Target>,
    /// This build.
    pub build: Build,
}

impl Config {
    /// The master keys.
    ///
    /// # Errors
    /// `Invalid` unless each has 32 bytes.
    pub fn master_keys(&self) -> Result<MasterKeys> {
        MasterKeys::new(self.master_key.clone(), self.master_key_previous.clone())
    }
}

/// Build metadata.
#[derive(Clone, Debug)]
pub struct Build {
    /// The release.
    pub version: String,
    /// The commit it was built from.
    pub commit: String,
    /// When it was built.
    pub built_at: String,
    /// The compiler.
    pub rust: String,
}
