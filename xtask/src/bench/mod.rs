//! `cargo xtask bench`: figures of the budgets on this machine; docs/benchmarks.md says how to read them. Reported, never asserted: a timed test is a
//! flaky test.

mod daemon;
mod figures;
mod project;
mod scale;
mod startup;

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::{
    cluster::binaries,
    environment, progress,
    step::Runner,
    supervise::{held::Held, lifeline, workdir::WorkDir},
};

/// Arguments of `bench`.
#[derive(Args)]
pub(crate) struct Options {
    /// What is measured.
    #[command(subcommand)]
    what: Option<What>,
    /// Measure the release build (the first one takes long).
    #[arg(long, global = true)]
    release: bool,
    /// How often each figure of `start` is measured.
    #[arg(long, default_value_t = 20)]
    runs: u32,
}

#[derive(Subcommand)]
enum What {
    /// Start-up, one project at a time, memory (the default).
    Start,
    /// Requests, ingest and lists on both databases, beside the bare database.
    Database(Rest),
    /// Many tenants brought to one cluster, beside a raw apply, with other clusters in trouble.
    Sync(Rest),
}

/// Passed on: `-- --help` lists them.
#[derive(Args)]
struct Rest {
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.what {
        None | Some(What::Start) => start(options),
        Some(What::Database(rest)) => scale::run(options.release, "database", &rest.arguments),
        Some(What::Sync(rest)) => scale::run(options.release, "sync", &rest.arguments),
    }
}

fn start(options: &Options) -> Result<()> {
    binaries::resolve()?;
    let signals = lifeline::signals()?;
    let runner = Runner { executable: environment::own_executable()?, signals: &signals };
    runner.run("build", &build(&["kubeop"], options.release)?)?;
    let kubeop = built("kubeop", options.release)?;
    let scratch = WorkDir::claim("bench", &format!("run-{}", std::process::id()), 0o700)?;

    progress::heading("start");
    let started = startup::measure(&kubeop, &scratch, options.runs)?;

    progress::heading("projects");
    let kubeconfig = scratch.file("kubeconfig");
    let name = format!("bench-{}", std::process::id());
    let arguments = ["cluster", "run", "--name", &name, "--kubeconfig", &kubeconfig.display().to_string()];
    let mut cluster = Held::start(&runner.executable, &arguments)?;
    cluster.line(&signals, Duration::from_mins(5)).context("the test cluster")?;
    let projects = project::measure(&kubeop, &scratch, &kubeconfig, options.runs)?;
    drop(cluster);

    println!(
        "{} build, {} runs, median (smallest - largest)",
        if options.release { "release" } else { "debug" },
        options.runs
    );
    println!("start of `kubeop manager` to /readyz, SQLite   {}", figures::milliseconds(&started));
    println!("POST /v1/projects, answer                      {}", figures::milliseconds(&projects.answered));
    println!("POST /v1/projects to namespace usable          {}", figures::milliseconds(&projects.usable));
    println!("memory of `kubeop dev`, idle                   {}", figures::mebibytes(projects.idle));
    println!("memory of `kubeop dev`, after the projects     {}", figures::mebibytes(projects.after));
    Ok(())
}

/// One command for all packages, so that they agree on the features of what they share.
fn build(packages: &[&str], release: bool) -> Result<Command> {
    let mut command = Runner::cargo(&["build"])?;
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    if release {
        command.arg("--release");
    }
    Ok(command)
}

fn built(program: &str, release: bool) -> Result<PathBuf> {
    let directory = environment::target_directory()?;
    Ok(if release {
        directory.parent().context("the target directory has no parent")?.join("release").join(program)
    } else {
        directory.join(program)
    })
}
