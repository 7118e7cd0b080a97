//! The executable of kubeOP: one binary, a subcommand per role.
//!
//! Invariant: the only crate that reads the environment and ends the process.

mod cli;
mod config;
mod generate;
mod hooks;
mod keys;
mod roles;
mod shutdown;
mod telemetry;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    telemetry::start(cli.log.as_deref());
    match cli::dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %format!("{error:#}"), "stopped");
            eprintln!("kubeop: {error:#}");
            ExitCode::FAILURE
        }
    }
}
