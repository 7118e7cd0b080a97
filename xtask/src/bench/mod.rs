//! `cargo xtask bench`: figures of the design's budgets as medians of several runs on this machine. Reported, never asserted: a timed test is a flaky test.

mod daemon;
mod figures;
mod project;
mod startup;

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    cluster::binaries,
    environment, progress,
    step::Runner,
    supervise::{held::Held, lifeline, workdir::WorkDir},
};

/// Arguments of `bench`.
#[derive(Args)]
pub(crate) struct Options {
    /// Measure the release build (the first one takes long).
    #[arg(long)]
    release: bool,
    /// How often each figure is measured.
    #[arg(long, default_value_t = 20)]
    runs: u32,
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    binaries::resolve()?;
    let signals = lifeline::signals()?;
    let runner = Runner { executable: environment::own_executable()?, signals: &signals };
    runner.run("build", &build(options)?)?;
    let kubeop = binary(options)?;
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

fn build(options: &Options) -> Result<Command> {
    let mut command = Runner::cargo(&["build", "--package", "kubeop"])?;
    if options.release {
        command.arg("--release");
    }
    Ok(command)
}

fn binary(options: &Options) -> Result<PathBuf> {
    let directory = environment::target_directory()?;
    Ok(if options.release {
        directory.parent().context("the target directory has no parent")?.join("release/kubeop")
    } else {
        directory.join("kubeop")
    })
}
