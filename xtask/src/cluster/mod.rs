//! `cargo xtask cluster`: throw-away Kubernetes control planes on this machine, without containers and without root.
//!
//! Each instance is one supervisor process (`cluster run`) with etcd, kube-apiserver, kube-controller-manager and kube-scheduler as its children and one
//! temporary directory. There are no nodes: workloads are accepted and stay pending.

pub(crate) mod binaries;
mod build;
mod certificates;
mod flags;
pub(crate) mod gomod;
mod instance;
mod kubeconfig;
mod run;
mod up;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};

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
    Build,
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
}

/// What kube-controller-manager may ask of the API server. Kubernetes' own defaults (20 and 30) cap any tool at about 21 new namespaces per second.
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
        Command::Up(options) => up::up(&options).map(|()| ExitCode::SUCCESS),
        Command::Down(name) => up::down(&name.name).map(|()| ExitCode::SUCCESS),
        Command::Status => up::status().map(|()| ExitCode::SUCCESS),
        Command::Build => {
            println!("{}", binaries::resolve()?.directory.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(options) => run::run(&options),
    }
}
