//! The command line: subcommands and where each goes.
//!
//! Invariant: every option can be given by environment; `--help` lists both with defaults.

use crate::config::{ClusterArgs, DatabaseArgs, ManagerArgs, MasterArgs, SigningArgs};
use crate::{generate, roles};
use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use kubeop_operator::Certificates;
use std::path::PathBuf;

/// kubeOP: a multi-tenant application platform for Kubernetes.
#[derive(Parser)]
#[command(name = "kubeop", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to log, as in `info,kubeop_operator=debug`.
    #[arg(long, env = "KUBEOP_LOG", global = true)]
    pub(crate) log: Option<String>,
    /// The role.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The roles and tools.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve the REST API and keep clusters in sync with the database.
    Manager(ManagerArgs),
    /// Reconcile the custom resources of one cluster.
    Operator(OperatorArgs),
    /// Answer the admission webhook of one cluster.
    Admission(AdmissionArgs),
    /// Manager, operator and admission in one process over SQLite.
    Dev(DevArgs),
    /// Bring the database's schema up to date.
    Migrate(DatabaseArgs),
    /// Copy a SQLite database into a new file, beside a running manager. The master key is not in it: keep that elsewhere.
    Backup(BackupArgs),
    /// Ask processes whether they are ready, for health checks of containers.
    Healthcheck(HealthcheckArgs),
    /// Print the OpenAPI document.
    Openapi,
    /// Print the custom resource definitions as YAML.
    Crds,
    /// Write the generated files of the repository, or check that they are current.
    Generate(GenerateArgs),
    /// Print a signed token.
    Token(TokenArgs),
    /// Make keys, check what is encrypted, rotate the master key.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Verify the audit log, or print the ends of its chains.
    #[command(subcommand)]
    Audit(AuditCommand),
}

/// What `kubeop keys` does.
#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Print a new random key, for `KUBEOP_KMS_MASTER_KEY` or `KUBEOP_JWT_SIGNING_KEY`.
    Generate,
    /// Open everything that is encrypted and tell under which master key it is; fails if something does not open.
    Check(KeysArgs),
    /// Bring everything that is encrypted under `KUBEOP_KMS_MASTER_KEY`, with the key before given as `KUBEOP_KMS_MASTER_KEY_PREVIOUS`; managers that have
    /// both keys go on meanwhile. Killed, it goes on where it was when it is run again.
    Rotate(RotateArgs),
}

/// Options of `kubeop backup`.
#[derive(Args)]
pub(crate) struct BackupArgs {
    /// The database.
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// The file to make; `-`: it is written to stdout, out of a container too.
    pub(crate) file: PathBuf,
}

/// Options of `kubeop keys`.
#[derive(Args)]
pub(crate) struct KeysArgs {
    /// The database.
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// The master keys.
    #[command(flatten)]
    pub(crate) master: MasterArgs,
}

/// Options of `kubeop keys rotate`.
#[derive(Args)]
pub(crate) struct RotateArgs {
    /// Database and keys.
    #[command(flatten)]
    pub(crate) keys: KeysArgs,
    /// How long to leave the database to others after each transaction of a hundred values.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=60_000))]
    pub(crate) pause: u64,
}

/// What `kubeop audit` does.
#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Read every chain and name each sealed record that was changed, removed, added or moved; fails if there is one.
    Verify(VerifyArgs),
    /// Print the end of each chain (`<chain> <place> <hash>`), for noting it where nobody who can write the database can write.
    Head(DatabaseArgs),
}

/// Options of `kubeop audit verify`.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// The database.
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// The master key; without it is not checked who wrote the ends of the chains.
    #[command(flatten)]
    pub(crate) master: MasterArgs,
    /// A file of lines that `kubeop audit head` printed at some time: each must still hold.
    #[arg(long)]
    pub(crate) heads: Option<PathBuf>,
}

/// Options of `kubeop operator`.
#[derive(Args)]
pub(crate) struct OperatorArgs {
    /// The cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Who makes admission's certificate (Secret kubeop-admission-tls and the webhook's caBundle).
    #[arg(long, env = "KUBEOP_ADMISSION_CERTIFICATES", value_enum, default_value = "operator")]
    pub(crate) admission_certificates: CertificatesBy,
}

/// Who makes admission's certificate.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum CertificatesBy {
    /// The operator.
    Operator,
    /// Somebody else, such as cert-manager.
    External,
}

impl From<CertificatesBy> for Certificates {
    fn from(by: CertificatesBy) -> Self {
        match by {
            CertificatesBy::Operator => Self::Operator,
            CertificatesBy::External => Self::External,
        }
    }
}

/// Options of `kubeop admission`.
#[derive(Args)]
pub(crate) struct AdmissionArgs {
    /// The cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Where reviews arrive, over TLS.
    #[arg(long, env = "KUBEOP_ADMISSION_ADDR", default_value = ":9443")]
    pub(crate) addr: String,
    /// Seconds it serves on after it was told to stop: longer than API servers take to learn that a pod goes.
    #[arg(long, env = "KUBEOP_ADMISSION_LINGER_SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=300))]
    pub(crate) linger_seconds: u64,
}

/// Options of `kubeop dev`.
#[derive(Args)]
pub(crate) struct DevArgs {
    /// The manager's options.
    #[command(flatten)]
    pub(crate) manager: ManagerArgs,
    /// How API servers reach this process' webhook (`https://host:port`); detected if possible.
    #[arg(long, env = "KUBEOP_WEBHOOK_URL")]
    pub(crate) webhook_url: Option<String>,
}

/// Options of `kubeop healthcheck`.
#[derive(Args)]
pub(crate) struct HealthcheckArgs {
    /// What has to answer 200, all of them (default: `/readyz` of the manager of this container).
    pub(crate) urls: Vec<http::Uri>,
    /// Where that manager serves.
    #[arg(long, env = "KUBEOP_HTTP_ADDR", default_value = ":8080")]
    pub(crate) http_addr: String,
    /// Seconds in which they may come up; 0: they are asked once.
    #[arg(long, default_value_t = 0)]
    pub(crate) wait: u64,
}

/// Options of `kubeop generate`.
#[derive(Args)]
pub(crate) struct GenerateArgs {
    /// The repository.
    #[arg(long, default_value = ".")]
    pub(crate) root: PathBuf,
    /// Fail if a file is not current, and write nothing.
    #[arg(long)]
    pub(crate) check: bool,
}

/// The role of a token.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TokenRole {
    /// Everything.
    Admin,
    /// One tenant.
    Tenant,
    /// One project.
    Project,
}

/// Options of `kubeop token`.
#[derive(Args)]
pub(crate) struct TokenArgs {
    /// The key.
    #[command(flatten)]
    pub(crate) signing: SigningArgs,
    /// The role.
    #[arg(long, value_enum, default_value = "admin")]
    pub(crate) role: TokenRole,
    /// The tenant's or project's id, for those roles.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Who shows it.
    #[arg(long, default_value = "admin")]
    pub(crate) subject: String,
    /// Minutes it lives: 1 to 1440.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(i64).range(1..=1440))]
    pub(crate) ttl_minutes: i64,
}

/// Runs a command to its end.
pub(crate) fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Openapi => generate::print_openapi(),
        Command::Crds => generate::print_crds(),
        Command::Generate(args) => generate::run(&args.root, args.check),
        Command::Token(args) => roles::token::run(&args),
        Command::Manager(args) => block_on(roles::manager::run(args)),
        Command::Operator(args) => block_on(roles::operator::run(args)),
        Command::Admission(args) => block_on(roles::admission::run(args)),
        Command::Dev(args) => block_on(roles::dev::run(args)),
        Command::Healthcheck(args) => block_on(roles::healthcheck::run(args)),
        Command::Audit(AuditCommand::Verify(args)) => block_on(roles::audit::verify(args)),
        Command::Audit(AuditCommand::Head(args)) => block_on(roles::audit::head(args)),
        Command::Keys(KeysCommand::Generate) => roles::keys::generate(),
        Command::Keys(KeysCommand::Check(args)) => block_on(roles::keys::check(args)),
        Command::Keys(KeysCommand::Rotate(args)) => block_on(roles::keys::rotate(args)),
        Command::Backup(args) => block_on(roles::backup::run(args)),
        Command::Migrate(args) => block_on(roles::migrate::run(args)),
    }
}

fn block_on(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // One TLS provider for the whole process; an error means that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?
        .block_on(role)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
