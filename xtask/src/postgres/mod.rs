//! `cargo xtask postgres`: a throw-away PostgreSQL on the loopback address, without packages and without root.

mod binaries;
mod server;
mod tools;

use std::{
    io::{Write as _, stdout},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::RecvTimeoutError,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use crate::{
    environment,
    supervise::{
        lifeline::{self, Event, Tie},
        workdir::WorkDir,
    },
};

/// `cargo xtask postgres ...`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Fetches the pinned PostgreSQL into the cache and prints the directory of its programs.
    Fetch,
    /// Runs a server until standard input ends; prints its URL when it is up.
    Run(Options),
}

/// Arguments of `postgres run`.
#[derive(Args)]
pub(crate) struct Options {
    /// Name of the instance (default: made from the process id).
    #[arg(long)]
    name: Option<String>,
    /// A server no newer than this major version, for tools of that version.
    #[arg(long, value_name = "MAJOR")]
    at_most: Option<u32>,
}

/// Makes sure that [`Command::Run`] will start at once.
pub(crate) fn prepare() -> Result<()> {
    binaries::resolve().map(|_| ())
}

/// The tools for dumps, and a server for them in the cache; none if the machine has none, which in CI is an error.
pub(crate) fn prepare_tools() -> Result<Option<PathBuf>> {
    let Some(found) = tools::find()? else {
        if environment::is_ci() {
            bail!("there is no pg_dump of PostgreSQL 15 or later: install postgresql-client");
        }
        return Ok(None);
    };
    let server = binaries::at_most(found.major)?;
    if server != binaries::SERVER {
        binaries::cached(server)?;
    }
    Ok(Some(found.directory))
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Fetch => println!("{}", binaries::resolve()?.display()),
        Command::Run(options) => supervise(options)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn supervise(options: Options) -> Result<()> {
    let executable = environment::own_executable()?;
    let events = lifeline::watch(Tie::Stdin)?;
    let programs = match options.at_most {
        Some(major) => binaries::cached(binaries::at_most(major)?)?,
        None => binaries::resolve()?,
    };
    let name = options.name.unwrap_or_else(|| format!("run-{}", std::process::id()));
    // The server may run as another user, who must be able to pass through.
    let directory = WorkDir::claim("postgres", &name, 0o711)?;
    let mut server = server::Server::start(&directory, &programs, &executable, &events)?;
    let mut output = stdout();
    writeln!(output, "{}", server.url()).and_then(|()| output.flush()).context("cannot write to standard output")?;
    loop {
        match events.recv_timeout(Duration::from_millis(500)) {
            Ok(Event::ParentGone | Event::Signal) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(Event::Line(_)) | Err(RecvTimeoutError::Timeout) => server.check()?,
        }
    }
}
