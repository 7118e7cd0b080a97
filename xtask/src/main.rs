//! The project's own tool: test cluster, test run, development set-up and checks. Parses the command line; each command has its own module.

mod bench;
mod cluster;
mod dev;
mod environment;
mod generate;
mod http;
mod image;
mod oci;
mod postgres;
mod progress;
mod step;
mod supervise;
mod test;
mod tidy;

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// kubeOP's project tool.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds kubeOP and runs it against a local test cluster (or the one of KUBECONFIG) until Ctrl-C.
    Dev(dev::Options),
    /// Runs every check and test of the project; `.ci/run` calls exactly this.
    Test(test::Options),
    /// Starts, stops and shows local test clusters.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Starts a throw-away PostgreSQL.
    #[command(subcommand)]
    Postgres(postgres::Command),
    /// Checks the shape of the code: file sizes, headers, orphans, names, dependencies.
    Tidy,
    /// Writes the generated files (CRDs, OpenAPI) or checks that they are current.
    Generate(generate::Options),
    /// Makes a container image of kubeOP, without a container engine.
    Image(image::Options),
    /// Measures: start-up and projects, the databases, the sync (docs/benchmarks.md).
    Bench(bench::Options),
    /// Runs a program and ends it when standard input ends (internal).
    #[command(hide = true)]
    Supervise(supervise::guard::Options),
    /// Replaces itself by a program that dies with its parent (internal).
    #[command(hide = true)]
    Tied(supervise::tied::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            // A detached supervisor has nobody to tell.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Dev(options) => dev::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Cluster(command) => cluster::run(command),
        Command::Postgres(command) => postgres::run(command),
        Command::Tidy => tidy::run().map(|()| ExitCode::SUCCESS),
        Command::Generate(options) => generate::run(options).map(|()| ExitCode::SUCCESS),
        Command::Image(options) => image::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Bench(options) => bench::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Supervise(options) => supervise::guard::run(&options),
        Command::Tied(options) => supervise::tied::run(&options),
    }
}
