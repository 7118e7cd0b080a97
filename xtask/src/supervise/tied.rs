//! `xtask tied`: asks the kernel for a signal when the parent dies, then becomes the program. Where the kernel cannot (not Linux), it only becomes the program.

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::Path, process::Command, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rustix::process::Signal;

/// What the program gets when its parent dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Farewell {
    /// Dies at once; for programs whose state is thrown away.
    Kill,
    /// May clean up behind itself.
    Term,
    /// PostgreSQL's immediate shutdown, which gives its shared memory back.
    Quit,
}

impl Farewell {
    /// The signal itself.
    pub(crate) fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Term => Signal::TERM,
            Self::Quit => Signal::QUIT,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Term => "term",
            Self::Quit => "quit",
        }
    }
}

/// Arguments of `xtask tied`.
#[derive(Args)]
pub(crate) struct Options {
    /// Who must still be the parent.
    #[arg(long)]
    parent: u32,
    #[arg(long, value_enum)]
    farewell: Farewell,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// A command that runs `program` tied to this process. The thread that starts it must live as long as the process: the kernel watches the thread.
pub(crate) fn command(executable: &Path, farewell: Farewell, program: &Path) -> Command {
    let mut command = Command::new(executable);
    command
        .args(["tied", "--parent", &std::process::id().to_string(), "--farewell", farewell.name(), "--"])
        .arg(program);
    command
}

/// Becomes the program; returns only on failure.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(options.farewell.signal()))
        .context("cannot tie the program to its parent")?;
    // The parent may have died before the request reached the kernel.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent != Some(options.parent) {
        bail!("the parent process {} is gone", options.parent);
    }
    let Some((program, arguments)) = options.command.split_first() else {
        bail!("no program given");
    };
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.to_string_lossy()))
}
