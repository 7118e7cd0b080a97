//! `cargo xtask cluster`: throw-away Kubernetes clusters on this machine, any number of control planes and, with `--node`, one with a real node.
//!
//! Each instance is one supervisor process (`cluster run`) with etcd, kube-apiserver, kube-controller-manager and kube-scheduler as its children and one
//! temporary directory, without containers and without root. Without a node workloads are accepted and stay pending; with one ([`node`]) they run.

pub(crate) mod binaries;
mod build;
mod certificates;
mod control;
mod flags;
pub(crate) mod gomod;
mod instance;
mod keys;
mod kubeconfig;
pub(crate) mod modules;
pub(crate) mod node;
mod replace;
mod run;
mod up;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use node::{addons::Until, requirements::Reason};

/// `cargo xtask cluster ...`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Starts a test cluster that runs until `cluster down`.
    Up(Named),
    /// Stops a test cluster and removes all it made.
    Down(Name),
    /// Shows the test clusters that are running.
    Status,
    /// Builds what a test cluster needs and prints the directory of the programs.
    Build(Build),
    /// Prints what a test must know of a node cluster, as JSON.
    Info(Name),
    /// Pushes an image (an OCI layout's directory or an archive) to a node cluster's registry.
    Push(Push),
    /// Sets the names that pods resolve besides the cluster's own: `web.local=172.31.77.2`; the former ones are gone.
    Hosts(Hosts),
    /// Kills a program of a running cluster (`etcd`, `kube-apiserver`, `kubelet`, ...), for tests of what happens without it.
    Stop(Fault),
    /// Starts a stopped program of a running cluster again, with its data.
    Start(Fault),
    /// Proves that a node cluster works: pulls, Services, DNS, exec, logs, policies, Ingress, metrics, limits.
    Check(Name),
    /// Runs a test cluster until standard input ends; prints `ready` when it is up (for test harnesses).
    #[command(hide = true)]
    Run(run::Options),
}

/// Which cluster.
#[derive(Args)]
pub(crate) struct Name {
    #[arg(long, default_value = "default")]
    pub(crate) name: String,
}

/// What to build.
#[derive(Args)]
pub(crate) struct Build {
    /// Also what a node needs.
    #[arg(long)]
    node: bool,
    /// Also helm.
    #[arg(long)]
    helm: bool,
    /// Also the controllers of cert-manager.
    #[arg(long)]
    cert_manager: bool,
}

/// An image, and the name to pull it by.
#[derive(Args)]
pub(crate) struct Push {
    #[command(flatten)]
    name: Name,
    path: PathBuf,
    /// As in a pod's `image`: `docker.io/kubeop/kubeop:dev`.
    image: String,
}

/// Names and addresses.
#[derive(Args)]
pub(crate) struct Hosts {
    #[command(flatten)]
    name: Name,
    /// `NAME=ADDRESS`, any number.
    entries: Vec<String>,
}

/// A program of a cluster.
#[derive(Args)]
pub(crate) struct Fault {
    #[command(flatten)]
    name: Name,
    program: String,
}

/// Whether there is a node.
#[derive(Args, Clone, Copy)]
pub(crate) struct Node {
    /// With a real node (Linux, root); exit code 77 where there can be none.
    #[arg(long = "node", id = "node")]
    pub(crate) wanted: bool,
    /// Install missing Debian packages (always done when CI is set).
    #[arg(long, requires = "node")]
    pub(crate) install: bool,
    /// What must work before the start is complete.
    #[arg(long, value_enum, default_value_t, requires = "node")]
    pub(crate) wait: Until,
}

/// Which cluster, and where its kubeconfig goes.
#[derive(Args)]
pub(crate) struct Named {
    #[command(flatten)]
    pub(crate) name: Name,
    /// Where to write the administrator's kubeconfig (default: in the cluster's own directory).
    #[arg(long)]
    pub(crate) kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) node: Node,
}

/// What kube-controller-manager and kube-scheduler may ask of the API server. Kubernetes' own defaults (20 and 30) cap any tool at about 21 new namespaces per second.
#[derive(Args, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests per second that kube-controller-manager may make (Kubernetes' default: 20).
    #[arg(long, default_value_t = 200)]
    pub(crate) kube_api_qps: u32,
    /// Requests that kube-controller-manager may make at once (Kubernetes' default: 30).
    #[arg(long, default_value_t = 400)]
    pub(crate) kube_api_burst: u32,
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(options) => up::up(&options),
        Command::Down(name) => up::down(&name.name).map(|()| ExitCode::SUCCESS),
        Command::Status => up::status().map(|()| ExitCode::SUCCESS),
        Command::Build(build) => {
            println!("{}", binaries::resolve()?.directory.display());
            if build.node {
                node::programs::Programs::resolve()?;
            }
            if build.helm {
                println!("{}", modules::HELM.resolve()?.join("helm").display());
            }
            if build.cert_manager {
                println!("{}", modules::CERT_MANAGER.resolve()?.join("cert-manager").display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Info(name) => {
            println!("{}", node::facts::text(&up::directory(&name.name)?)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Push(push) => {
            let directory = up::directory(&push.name.name)?;
            node::facts::read(&directory)?;
            let crane = modules::CRANE.resolve()?.join("crane");
            node::images::push(&crane, &push.path, &push.image)?.finish()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Hosts(hosts) => {
            let directory = up::directory(&hosts.name.name)?;
            node::facts::read(&directory)?;
            node::addons::set_hosts(&binaries::resolve()?.kubectl, &directory, &hosts.entries)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Stop(fault) => fault.ask("stop"),
        Command::Start(fault) => fault.ask("start"),
        Command::Check(name) => {
            let directory = up::directory(&name.name)?;
            node::check::run(&directory, &node::facts::read(&directory)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(options) => run::run(&options),
    }
}

impl Fault {
    fn ask(&self, verb: &str) -> Result<ExitCode> {
        control::ask(&up::directory(&self.name.name)?, &format!("{verb} {}", self.program))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Says why there can be no node, and ends with the code that means it.
fn unavailable(reason: &Reason) -> Result<ExitCode> {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "unavailable: {reason}").context("cannot write")?;
    Ok(ExitCode::from(node::UNAVAILABLE))
}
