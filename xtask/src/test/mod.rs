//! `cargo xtask test`: every check and every test, in order of cost, on a control plane and a PostgreSQL of its own, and beside that on a real node. `.ci/run`
//! calls exactly this.

mod node;
mod previous;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::Receiver,
    time::Duration,
    time::Instant,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    cluster::{
        binaries::{self, Binaries},
        modules,
    },
    environment,
    image::target::Target,
    postgres, progress,
    step::Runner,
    supervise::{
        held::Held,
        lifeline::{self, Event},
        workdir,
    },
    tidy,
};

/// Crates that must compile alone, without features that others switch on for them.
const ALONE: [&str; 5] = ["kubeop-core", "kubeop-crds", "kubeop-plan", "kubeop-api", "kubeop-store"];

/// Arguments of `test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Only the tests on a real node.
    #[arg(long)]
    node: bool,
    /// Skip tidy, formatting, clippy, licences and the crates' checks alone.
    #[arg(long)]
    skip_lint: bool,
    /// Arguments for the test programs.
    #[arg(last = true)]
    extra: Vec<String>,
}

/// Runs everything; the first failure ends the run.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let start = Instant::now();
    // First and before signals are ours: what takes long the first time says early what is missing, and can be ended like any command.
    let binaries = binaries::resolve()?;
    // A filter is for the tests that need no node, unless those are asked for.
    let on_node = (options.node || options.filter.is_none()) && node::possible()?;
    if on_node {
        node::prepare()?;
    }
    let mut tools = if on_node || environment::is_ci() { Tools::built()? } else { Tools::default() };
    if environment::variable("KUBEOP_TEST_POSTGRES_URL").is_none() {
        postgres::prepare()?;
    }
    if !options.node {
        tools.postgres = postgres::prepare_tools()?;
    }
    // Everything is built once, for what the image is built for: the `kubeop` that is tested is the one that is shipped.
    let target = Target::native()?;
    let signals = lifeline::signals()?;
    let runner = Runner { executable: environment::own_executable()?, signals: &signals };
    if !options.skip_lint && !options.node {
        lint(&runner, &target)?;
    }
    let previous = if on_node { previous::resolve(&runner, &target)? } else { None };
    runner.run("build", &target.cargo(&["build"], &["--workspace", "--all-targets"])?)?;
    let kubeop = target.directory("debug")?.join("kubeop");

    progress::heading("test cluster and PostgreSQL");
    let services = Services::start(&runner, Programs { binaries, kubeop: &kubeop, tools })?;
    if options.node {
        if on_node {
            node::run(&runner, options, &target, &services, previous.as_ref())?;
        }
    } else {
        // Half of what a node's tests take is waiting for pods.
        let node = on_node.then(|| node::beside(&runner, &services)).transpose()?;
        runner.run("tests", &services.with_environment(test_command(options, &target)?))?;
        node.map(|node| runner.join(node)).transpose()?;
    }
    if environment::program("cargo-nextest").is_some() && options.filter.is_none() && !options.node {
        // nextest runs everything but these.
        runner.run(
            "documentation tests",
            &services.with_environment(target.cargo(&["test"], &["--workspace", "--doc"])?),
        )?;
    }
    drop(services);

    let mut generate = std::process::Command::new(&kubeop);
    generate.args(["generate", "--check"]).current_dir(environment::workspace_root()?);
    runner.run("generated files are current", &generate)?;
    progress::heading(&format!("everything passed: {}", progress::since(start)));
    Ok(ExitCode::SUCCESS)
}

fn lint(runner: &Runner<'_>, target: &Target) -> Result<()> {
    progress::heading("tidy");
    tidy::run()?;
    runner.run("format", &Runner::cargo(&["fmt", "--all", "--check"])?)?;
    runner.run("clippy", &target.cargo(&["clippy"], &["--workspace", "--all-targets", "--", "-D", "warnings"])?)?;
    if environment::program("cargo-deny").is_some() {
        runner.run("licences and bans", &Runner::cargo(&["deny", "check", "bans", "licenses", "sources"])?)?;
    }
    for package in ALONE {
        runner.run(&format!("{package} alone"), &target.cargo(&["check"], &["--quiet", "--package", package])?)?;
    }
    Ok(())
}

fn test_command(options: &Options, target: &Target) -> Result<std::process::Command> {
    let mut command = if environment::program("cargo-nextest").is_some() {
        target.cargo(&["nextest", "run"], &["--workspace", "--no-fail-fast"])?
    } else {
        target.cargo(&["test"], &["--workspace", "--no-fail-fast"])?
    };
    command.args(&options.filter);
    if !options.extra.is_empty() {
        command.arg("--").args(&options.extra);
    }
    Ok(command)
}

/// What only some tests need, and do without where nobody asked for everything: the first two take minutes to build.
#[derive(Default)]
struct Tools {
    helm: Option<PathBuf>,
    cert_manager: Option<PathBuf>,
    /// The directory of `pg_dump` and `pg_restore`.
    postgres: Option<PathBuf>,
}

impl Tools {
    /// What is to be built.
    fn built() -> Result<Self> {
        Ok(Self {
            helm: Some(modules::HELM.resolve()?.join("helm")),
            cert_manager: Some(modules::CERT_MANAGER.resolve()?.join("cert-manager")),
            postgres: None,
        })
    }
}

/// The programs that the tests start.
struct Programs<'a> {
    binaries: Binaries,
    kubeop: &'a Path,
    tools: Tools,
}

/// What the tests need beside themselves; dropping it stops what we started.
struct Services<'a> {
    runner: &'a Runner<'a>,
    programs: Programs<'a>,
    kubeconfig: String,
    postgres: String,
    _held: Vec<Held>,
}

impl<'a> Services<'a> {
    /// Starts a control plane and a PostgreSQL at the same time, unless the environment names running ones.
    fn start(runner: &'a Runner<'a>, programs: Programs<'a>) -> Result<Self> {
        let start = Instant::now();
        let given =
            (environment::variable("KUBEOP_TEST_KUBECONFIG"), environment::variable("KUBEOP_TEST_POSTGRES_URL"));
        let name = format!("test-{}", std::process::id());
        let mut running = Vec::new();
        let cluster = given
            .0
            .is_none()
            .then(|| Held::start(&runner.executable, &["cluster", "run", "--name", &name]))
            .transpose()?;
        let database = given
            .1
            .is_none()
            .then(|| Held::start(&runner.executable, &["postgres", "run", "--name", &name]))
            .transpose()?;
        let postgres = match (given.1, database) {
            (Some(url), _) => url,
            (None, None) => String::new(),
            (None, Some(mut database)) => {
                let url = first_line(&mut database, runner.signals, "PostgreSQL")?;
                running.push(database);
                url
            }
        };
        let kubeconfig = match (given.0, cluster) {
            (Some(path), _) => path,
            (None, None) => String::new(),
            (None, Some(mut cluster)) => {
                first_line(&mut cluster, runner.signals, "the test cluster")?;
                running.push(cluster);
                workdir::base()?.join(format!("cluster-{name}")).join("kubeconfig").display().to_string()
            }
        };
        progress::note(&format!("both are up: {}", progress::since(start)));
        Ok(Self { runner, programs, kubeconfig, postgres, _held: running })
    }

    /// The contract with the tests; `crates/e2e` reads it.
    fn with_environment(&self, mut command: std::process::Command) -> std::process::Command {
        command
            .env("KUBEOP_TEST_KUBECONFIG", &self.kubeconfig)
            .env("KUBEOP_TEST_POSTGRES_URL", &self.postgres)
            .env("KUBEOP_TEST_BIN", self.programs.kubeop)
            .env("KUBEOP_TEST_KUBECTL", &self.programs.binaries.kubectl)
            .env("KUBEOP_TEST_CLUSTER_BIN", &self.programs.binaries.directory)
            .env("KUBEOP_TEST_XTASK", &self.runner.executable)
            // An error tells what went on by its words; the frames of its making bury them.
            .env("RUST_LIB_BACKTRACE", "0")
            .envs(self.programs.tools.helm.iter().map(|helm| ("KUBEOP_TEST_HELM", helm)))
            .envs(self.programs.tools.cert_manager.iter().map(|program| ("KUBEOP_TEST_CERT_MANAGER", program)))
            .envs(self.programs.tools.postgres.iter().map(|tools| ("KUBEOP_TEST_POSTGRES_TOOLS", tools)));
        command
    }
}

fn first_line(held: &mut Held, signals: &Receiver<Event>, what: &str) -> Result<String> {
    held.line(signals, Duration::from_mins(5)).with_context(|| what.to_owned())
}
