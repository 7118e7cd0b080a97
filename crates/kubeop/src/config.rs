//! Options and environment, parsed into the configuration of the roles.
//!
//! Invariant: a malformed value stops the start with a sentence that names the variable.

use crate::hooks::HookArgs;
use crate::keys::{Given, kept, made};
use anyhow::{Context, bail};
use clap::Args;
use jiff::SignedDuration;
use kubeop_cluster::address::AddressPolicy;
use kubeop_core::image::ImageRef;
use kubeop_core::policy::{PlatformPolicy, RawPolicy, RawQuotaMax};
use kubeop_core::price::{Currency, parse_rate};
use kubeop_manager::config::{Build, Config, MetricsHome};
use kubeop_manager::keys::MasterKeys;
use kubeop_plan::install::MetricsServer;
use secrecy::{SecretSlice, SecretString};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

/// Where the database is.
#[derive(Args, Clone)]
pub(crate) struct DatabaseArgs {
    /// Where SQLite and generated keys are kept.
    #[arg(long, env = "KUBEOP_DATA_DIR", default_value = "kubeop-data")]
    pub(crate) data_dir: PathBuf,
    /// `sqlite://path` (default: in the data directory) or `postgres://...`.
    #[arg(long, env = "KUBEOP_DB_URL", hide_env_values = true)]
    pub(crate) db_url: Option<String>,
}

impl DatabaseArgs {
    /// The URL of a database that is there already; nothing is made.
    pub(crate) fn existing(&self) -> String {
        self.db_url.clone().unwrap_or_else(|| format!("sqlite://{}", self.data_dir.join("kubeop.db").display()))
    }

    /// The URL, with the default in the data directory, which is made.
    pub(crate) fn url(&self) -> anyhow::Result<String> {
        if let Some(url) = &self.db_url {
            return Ok(url.clone());
        }
        self.make_data_dir()?;
        Ok(format!("sqlite://{}", self.data_dir.join("kubeop.db").display()))
    }

    fn make_data_dir(&self) -> anyhow::Result<()> {
        let shown = self.data_dir.display();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.data_dir)
            .with_context(|| format!("KUBEOP_DATA_DIR: failed to make {shown}"))
    }
}

/// The keys of tokens.
#[derive(Args, Clone)]
pub(crate) struct SigningArgs {
    /// Where generated keys are kept.
    #[arg(long = "key-dir", env = "KUBEOP_KEY_DIR")]
    pub(crate) key_dir: Option<PathBuf>,
    /// Key of tokens: base64 of at least 32 bytes.
    #[arg(long, env = "KUBEOP_JWT_SIGNING_KEY", hide_env_values = true)]
    pub(crate) jwt_signing_key: Option<SecretString>,
    /// A file with that key.
    #[arg(long, env = "KUBEOP_JWT_SIGNING_KEY_FILE")]
    pub(crate) jwt_signing_key_file: Option<PathBuf>,
}

impl SigningArgs {
    /// The signing key as it is given.
    pub(crate) fn given(&self) -> anyhow::Result<Option<SecretSlice<u8>>> {
        let (text, file) = (self.jwt_signing_key.as_ref(), self.jwt_signing_key_file.as_ref());
        let given = Given { variable: "KUBEOP_JWT_SIGNING_KEY", text, file }.read(false)?;
        match (given, &self.key_dir) {
            (Some(key), _) => Ok(Some(key)),
            (None, Some(folder)) => kept(&folder.join(SIGNING_KEY)),
            (None, None) => Ok(None),
        }
    }
}

/// The file of a generated signing key.
pub(crate) const SIGNING_KEY: &str = "jwt-signing.key";
/// The file of a generated master key.
const MASTER_KEY: &str = "master.key";

/// Our image of this version.
const OPERATOR_IMAGE: &str = concat!("ghcr.io/kubeop/kubeop:", env!("CARGO_PKG_VERSION"));
/// The metrics server that this version was tested with.
const METRICS_SERVER_IMAGE: &str = "registry.k8s.io/metrics-server/metrics-server:v0.9.0";

/// The master key, and during a rotation the one before.
#[derive(Args, Clone)]
#[expect(clippy::struct_field_names, reason = "a field's name is its option's")]
pub(crate) struct MasterArgs {
    /// Key of what is stored encrypted: base64 of exactly 32 bytes.
    #[arg(long, env = "KUBEOP_KMS_MASTER_KEY", hide_env_values = true)]
    pub(crate) kms_master_key: Option<SecretString>,
    /// A file with that key.
    #[arg(long, env = "KUBEOP_KMS_MASTER_KEY_FILE")]
    pub(crate) kms_master_key_file: Option<PathBuf>,
    /// The master key before, still accepted until `kubeop keys rotate` has ended: base64 of exactly 32 bytes.
    #[arg(long, env = "KUBEOP_KMS_MASTER_KEY_PREVIOUS", hide_env_values = true)]
    pub(crate) kms_master_key_previous: Option<SecretString>,
    /// A file with that key.
    #[arg(long, env = "KUBEOP_KMS_MASTER_KEY_PREVIOUS_FILE")]
    pub(crate) kms_master_key_previous_file: Option<PathBuf>,
}

impl MasterArgs {
    /// The master key as it is given.
    fn given(&self) -> anyhow::Result<Option<SecretSlice<u8>>> {
        let (text, file) = (self.kms_master_key.as_ref(), self.kms_master_key_file.as_ref());
        Given { variable: "KUBEOP_KMS_MASTER_KEY", text, file }.read(true)
    }

    /// The key before, as it is given.
    fn previous(&self) -> anyhow::Result<Option<SecretSlice<u8>>> {
        let (text, file) = (self.kms_master_key_previous.as_ref(), self.kms_master_key_previous_file.as_ref());
        Given { variable: "KUBEOP_KMS_MASTER_KEY_PREVIOUS", text, file }.read(true)
    }

    /// The master keys as they are given, or the one that was made in the data directory; none if there is none.
    pub(crate) fn find(&self, database: &DatabaseArgs) -> anyhow::Result<Option<MasterKeys>> {
        let current = match self.given()? {
            Some(key) => Some(key),
            None => kept(&database.data_dir.join(MASTER_KEY))?,
        };
        let Some(current) = current else { return Ok(None) };
        Ok(Some(MasterKeys::new(current, self.previous()?)?))
    }
}

/// Options of the manager.
#[derive(Args, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct ManagerArgs {
    /// The database.
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// The keys of tokens.
    #[command(flatten)]
    pub(crate) signing: SigningArgs,
    /// Where the API is served, as `:8080` or `127.0.0.1:8080`; with authentication off only loopback, and that is the default then.
    #[arg(long, env = "KUBEOP_HTTP_ADDR")]
    pub(crate) http_addr: Option<String>,
    /// A separate address for metrics alone; without it they are served with the API, to everybody.
    #[arg(long, env = "KUBEOP_METRICS_ADDR")]
    pub(crate) metrics_addr: Option<String>,
    /// Whether callers must show a token.
    #[arg(long, env = "KUBEOP_REQUIRE_AUTH", default_value_t = true, action = clap::ArgAction::Set, value_parser = switch)]
    pub(crate) require_auth: bool,
    /// For development: make missing keys, accept an open API beyond loopback and kubeconfigs that skip TLS verification.
    #[arg(long, env = "KUBEOP_DEV_INSECURE", default_value_t = false, action = clap::ArgAction::Set, value_parser = switch)]
    pub(crate) dev_insecure: bool,
    /// The key before, still accepted: base64.
    #[arg(long, env = "KUBEOP_JWT_SIGNING_KEY_PREVIOUS", hide_env_values = true)]
    pub(crate) jwt_signing_key_previous: Option<SecretString>,
    /// A file with that key.
    #[arg(long, env = "KUBEOP_JWT_SIGNING_KEY_PREVIOUS_FILE")]
    pub(crate) jwt_signing_key_previous_file: Option<PathBuf>,
    /// The master key.
    #[command(flatten)]
    pub(crate) master: MasterArgs,
    /// First policy: registries and paths images may come from, separated by commas.
    #[arg(long, env = "KUBEOP_IMAGE_ALLOWLIST", default_value = "")]
    pub(crate) image_allowlist: String,
    /// First policy: CIDRs pods may reach outside, separated by commas.
    #[arg(long, env = "KUBEOP_EGRESS_BASELINE", default_value = "")]
    pub(crate) egress_baseline: String,
    /// First policy: CPU requests of one project at most.
    #[arg(long, env = "KUBEOP_QUOTA_MAX_REQUESTS_CPU")]
    pub(crate) quota_max_requests_cpu: Option<String>,
    /// First policy: memory requests of one project at most.
    #[arg(long, env = "KUBEOP_QUOTA_MAX_REQUESTS_MEMORY")]
    pub(crate) quota_max_requests_memory: Option<String>,
    /// Amount per millicore-hour.
    #[arg(long, env = "KUBEOP_RATE_CPU_MILLI", default_value = "0.000001")]
    pub(crate) rate_cpu_milli: String,
    /// Amount per MiB-hour.
    #[arg(long, env = "KUBEOP_RATE_MEM_MIB", default_value = "0.0000002")]
    pub(crate) rate_mem_mib: String,
    /// Currency of invoices (ISO 4217).
    #[arg(long, env = "KUBEOP_CURRENCY", default_value = "USD")]
    pub(crate) currency: String,
    /// Hours after its end in which a month takes in late usage.
    #[arg(long, env = "KUBEOP_INVOICE_GRACE_HOURS", default_value_t = 72, value_parser = clap::value_parser!(i64).range(0..=2160))]
    pub(crate) invoice_grace_hours: i64,
    /// Image of operator and admission in clusters (default: this version's).
    #[arg(long, env = "KUBEOP_OPERATOR_IMAGE", default_value = OPERATOR_IMAGE)]
    pub(crate) operator_image: String,
    /// Image of the metrics server where one is asked for.
    #[arg(long, env = "KUBEOP_METRICS_SERVER_IMAGE", default_value = METRICS_SERVER_IMAGE)]
    pub(crate) metrics_server_image: String,
    /// Whether that metrics server takes kubelets' certificates unseen, for clusters whose kubelets sign their own.
    #[arg(long, env = "KUBEOP_METRICS_SERVER_INSECURE_KUBELETS", default_value_t = false, action = clap::ArgAction::Set, value_parser = switch)]
    pub(crate) metrics_server_insecure_kubelets: bool,
    /// Whether every cluster's installation is brought up to date once after the start.
    #[arg(long, env = "KUBEOP_BOOTSTRAP_ON_START", default_value_t = false, action = clap::ArgAction::Set, value_parser = switch)]
    pub(crate) bootstrap_on_start: bool,
    /// Where an API server of a kubeconfig that names loopback is looked for if loopback does not answer, as in a container; `off` = nowhere.
    #[arg(long, env = "KUBEOP_HOST_GATEWAY", default_value = kubeop_cluster::gateway::DEFAULT, value_parser = host)]
    pub(crate) host_gateway: String,
    /// Private addresses that registered API servers may have: `all`, `none`, or ranges separated by commas, as in `10.0.0.0/8,fd00::/8`. Link-local
    /// addresses are allowed only by a range within theirs, metadata services only by their very address.
    #[arg(long, env = "KUBEOP_ALLOW_PRIVATE_SERVERS", default_value = "all", value_parser = servers)]
    pub(crate) allow_private_servers: AddressPolicy,
    /// Who is told of what happens.
    #[command(flatten)]
    pub(crate) hooks: HookArgs,
    /// Requests per second and tenant (of admins: and subject), with bursts of four times that; 0 = no limit (default 50, in `kubeop dev` 0).
    #[arg(long, env = "KUBEOP_RATE_LIMIT")]
    pub(crate) rate_limit: Option<u32>,
    /// Seconds the API is served after the process was told to stop, with `/readyz` at 503: longer than those in front of it take to learn that it goes.
    #[arg(long, env = "KUBEOP_LINGER_SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=300))]
    pub(crate) linger_seconds: u64,
}

/// How a role reaches its cluster.
#[derive(Args, Clone)]
pub(crate) struct ClusterArgs {
    /// A self-contained kubeconfig; without it the pod's own ServiceAccount is used.
    #[arg(long, env = "KUBEOP_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Where metrics and probes are served.
    #[arg(long, env = "KUBEOP_METRICS_ADDR", default_value = ":9090")]
    pub(crate) metrics_addr: String,
    /// The pod this process runs in: its name in the election.
    #[arg(long, env = "KUBEOP_POD_NAME")]
    pub(crate) pod_name: Option<String>,
}

/// What differs between `kubeop manager` and `kubeop dev`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// `kubeop manager`.
    Production,
    /// `kubeop dev`.
    Development,
}

/// A host name or an address, without a port.
fn host(text: &str) -> Result<String, String> {
    let named = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    let ok = !text.is_empty() && (named || text.parse::<IpAddr>().is_ok());
    if ok { Ok(text.to_owned()) } else { Err("a host name or an address without a port is needed, or off".to_owned()) }
}

fn servers(text: &str) -> Result<AddressPolicy, String> {
    AddressPolicy::parse(text).map_err(|error| error.message().to_owned())
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("true or false is needed".to_owned()),
    }
}

/// Reads `:8080`, `host:8080` or `[::1]:8080`.
pub(crate) fn address(variable: &str, text: &str) -> anyhow::Result<SocketAddr> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .with_context(|| format!("{variable}: {text:?} is not an address such as :8080 or 127.0.0.1:8080"))
}

/// Checks that a kubelet could pull it.
fn image(variable: &'static str, text: &str) -> anyhow::Result<String> {
    ImageRef::parse(text).context(variable)?;
    Ok(text.to_owned())
}

impl ManagerArgs {
    /// Where the API is served.
    pub(crate) fn listen(&self, home: Home) -> anyhow::Result<SocketAddr> {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
        let Some(text) = &self.http_addr else {
            let open = !self.require_auth || home == Home::Development;
            return if open { Ok(loopback) } else { address("KUBEOP_HTTP_ADDR", ":8080") };
        };
        let address = address("KUBEOP_HTTP_ADDR", text)?;
        if !self.require_auth && !address.ip().is_loopback() && !self.dev_insecure {
            bail!(
                "KUBEOP_HTTP_ADDR {text:?} reaches beyond loopback while KUBEOP_REQUIRE_AUTH=false: \
                 set KUBEOP_DEV_INSECURE=true if everybody who reaches it may do everything"
            );
        }
        Ok(address)
    }

    /// The manager's configuration.
    pub(crate) fn config(&self, home: Home) -> anyhow::Result<Config> {
        let make_keys = self.dev_insecure || home == Home::Development;
        let signing = self.signing_key(make_keys)?;
        let (text, file) = (self.jwt_signing_key_previous.as_ref(), self.jwt_signing_key_previous_file.as_ref());
        let previous = Given { variable: "KUBEOP_JWT_SIGNING_KEY_PREVIOUS", text, file }.read(false)?;
        let list = |text: &str| -> Vec<String> {
            text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(ToOwned::to_owned).collect()
        };
        let first_policy = RawPolicy {
            image_allowlist: list(&self.image_allowlist),
            egress_baseline: list(&self.egress_baseline),
            quota_max: RawQuotaMax {
                requests_cpu: self.quota_max_requests_cpu.clone(),
                requests_memory: self.quota_max_requests_memory.clone(),
            },
        };
        PlatformPolicy::parse(&first_policy)
            .context("the first policy of the environment (KUBEOP_IMAGE_ALLOWLIST, ...)")?;
        Ok(Config {
            require_auth: self.require_auth,
            metrics: if self.metrics_addr.is_some() { MetricsHome::Apart } else { MetricsHome::Api },
            signing_keys: std::iter::once(signing).chain(previous).collect(),
            master_key: self.master_key(make_keys)?,
            master_key_previous: self.master.previous()?,
            servers: self.allow_private_servers.clone(),
            insecure: self.dev_insecure,
            first_policy,
            rate_cpu_milli: parse_rate(&self.rate_cpu_milli).context("KUBEOP_RATE_CPU_MILLI")?,
            rate_mem_mib: parse_rate(&self.rate_mem_mib).context("KUBEOP_RATE_MEM_MIB")?,
            currency: Currency::parse(&self.currency).context("KUBEOP_CURRENCY")?,
            invoice_grace: SignedDuration::from_hours(self.invoice_grace_hours),
            linger: Duration::from_secs(self.linger_seconds),
            rate_limit: self.rate_limit.unwrap_or(if home == Home::Development { 0 } else { 50 }),
            operator_image: image("KUBEOP_OPERATOR_IMAGE", &self.operator_image)?,
            metrics_server: MetricsServer {
                image: image("KUBEOP_METRICS_SERVER_IMAGE", &self.metrics_server_image)?,
                insecure_kubelets: self.metrics_server_insecure_kubelets,
            },
            bootstrap_on_start: self.bootstrap_on_start,
            host_gateway: Some(self.host_gateway.clone()).filter(|host| host != "off"),
            event_hook: self.hooks.events()?,
            cluster_ready_hook: self.hooks.cluster_ready()?,
            build: build(),
        })
    }

    fn signing_key(&self, make: bool) -> anyhow::Result<SecretSlice<u8>> {
        if let Some(key) = self.signing.given()? {
            return Ok(key);
        }
        if make || !self.require_auth {
            self.database.make_data_dir()?;
            return made(&self.database.data_dir.join(SIGNING_KEY));
        }
        bail!(
            "KUBEOP_JWT_SIGNING_KEY is not set: base64 of at least 32 random bytes is needed, as from `openssl rand -base64 32`"
        )
    }

    fn master_key(&self, make: bool) -> anyhow::Result<SecretSlice<u8>> {
        if let Some(key) = self.master.given()? {
            return Ok(key);
        }
        if make {
            self.database.make_data_dir()?;
            return made(&self.database.data_dir.join(MASTER_KEY));
        }
        bail!(
            "KUBEOP_KMS_MASTER_KEY is not set: base64 of exactly 32 random bytes is needed, as from `openssl rand -base64 32`"
        )
    }
}

/// This build.
pub(crate) fn build() -> Build {
    Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("KUBEOP_COMMIT").to_owned(),
        built_at: env!("KUBEOP_BUILT_AT").to_owned(),
        rust: env!("KUBEOP_RUSTC").to_owned(),
    }
}

/// Warns of `KUBEOP_*` variables that nothing reads.
pub(crate) fn warn_of_unknown_variables(command: &clap::Command) {
    let known: Vec<String> = command
        .get_subcommands()
        .chain(std::iter::once(command))
        .flat_map(clap::Command::get_arguments)
        .filter_map(|argument| argument.get_env()?.to_str().map(ToOwned::to_owned))
        .collect();
    #[expect(clippy::disallowed_methods, reason = "the executable reads the environment")]
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect::<Vec<_>>();
    for name in names.iter().filter(|name| name.starts_with("KUBEOP_") && !name.starts_with("KUBEOP_TEST_")) {
        if !known.contains(name) {
            tracing::warn!(variable = %name, "unknown variable: nothing reads it");
        }
    }
}
