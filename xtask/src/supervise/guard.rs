//! `xtask supervise`: runs one program with the terminal's output, in a process group of its own, and ends the whole group when standard input ends.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc::RecvTimeoutError,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::process::Signal;

use super::{
    lifeline::{self, Event, Tie},
    process,
    tied::{self, Farewell},
};
use crate::environment;

/// Arguments of `xtask supervise`.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds between SIGTERM and SIGKILL.
    #[arg(long, default_value_t = 10)]
    grace: u64,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Runs the program to its end, or to ours.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let Some((program, arguments)) = options.command.split_first() else {
        bail!("no program given");
    };
    let events = lifeline::watch(Tie::Stdin)?;
    let mut command: Command = tied::command(&environment::own_executable()?, Farewell::Term, Path::new(program));
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", program.to_string_lossy()))?;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the program")? {
            // What the program started in its group ends with it.
            process::signal_group(child.id(), Signal::KILL);
            return Ok(code(status));
        }
        match events.recv_timeout(Duration::from_millis(20)) {
            Ok(Event::Line(_)) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::ParentGone | Event::Signal) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = end_group(&mut child, Duration::from_secs(options.grace))?;
    Ok(code(status))
}

fn end_group(child: &mut Child, grace: Duration) -> Result<ExitStatus> {
    process::signal_group(child.id(), Signal::TERM);
    let start = Instant::now();
    while start.elapsed() < grace {
        if let Some(status) = child.try_wait().context("cannot wait for the program")? {
            process::signal_group(child.id(), Signal::KILL);
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
    process::signal_group(child.id(), Signal::KILL);
    child.wait().context("cannot wait for the program")
}

/// The program's own exit code; 1 if a signal ended it.
fn code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
