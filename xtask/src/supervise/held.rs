//! The parent's side: a supervisor process whose standard input we hold open. Dropping it, or dying, ends the supervisor and all it started.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use rustix::process::Signal;

use super::{lifeline::Event, process};

/// A supervisor we started.
pub(crate) struct Held {
    child: Child,
    lifeline: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Held {
    /// Starts `xtask <arguments>`; its standard output is read by [`Held::line`].
    pub(crate) fn start<A: AsRef<OsStr>>(executable: &Path, arguments: &[A]) -> Result<Self> {
        let mut command = Command::new(executable);
        command.args(arguments).stdout(Stdio::piped());
        Self::spawn(command)
    }

    /// The same for a supervisor that is to go on without us: it must not hold our standard error, or a pipeline we are part of would never end.
    pub(crate) fn start_detached<A: AsRef<OsStr>>(executable: &Path, arguments: &[A]) -> Result<Self> {
        let mut command = Command::new(executable);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut held = Self::spawn(command)?;
        if let Some(errors) = held.child.stderr.take() {
            thread::spawn(move || {
                for line in BufReader::new(errors).lines().map_while(Result::ok) {
                    eprintln!("{line}");
                }
            });
        }
        Ok(held)
    }

    /// Runs a command under `xtask supervise`; its output goes where ours goes.
    pub(crate) fn guard(executable: &Path, command: &Command) -> Result<Self> {
        Self::spawn(Self::guarded(executable, command))
    }

    /// The same, with all its output in a file.
    pub(crate) fn guard_into(executable: &Path, command: &Command, file: &File) -> Result<Self> {
        let mut guarded = Self::guarded(executable, command);
        let copy = || file.try_clone().context("cannot share a file");
        guarded.stdout(copy()?).stderr(copy()?);
        Self::spawn(guarded)
    }

    fn guarded(executable: &Path, command: &Command) -> Command {
        let mut guarded = Command::new(executable);
        guarded.args(["supervise", "--"]).arg(command.get_program()).args(command.get_args());
        if let Some(directory) = command.get_current_dir() {
            guarded.current_dir(directory);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(name, value),
                None => guarded.env_remove(name),
            };
        }
        guarded
    }

    fn spawn(mut command: Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        // A group of its own: Ctrl-C in the terminal reaches only us, and we end the supervisors in order.
        let mut child = command
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let lifeline = child.stdin.take();
        let (sender, lines) = channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { child, lifeline, lines })
    }

    /// The next line the supervisor prints. Fails when it ends, on a signal to us, or after `limit`.
    pub(crate) fn line(&mut self, signals: &Receiver<Event>, limit: Duration) -> Result<String> {
        let start = Instant::now();
        while start.elapsed() < limit {
            match self.lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().context("cannot wait for the supervisor")?;
                    bail!("it could not be started ({status}); the reason is above");
                }
            }
            if signals.try_recv().is_ok() {
                bail!("interrupted");
            }
        }
        bail!("it was not ready within {} s", limit.as_secs())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for the supervisor")
    }

    /// Waits for its own end; a signal to us ends it and fails.
    pub(crate) fn finish(mut self, signals: &Receiver<Event>) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if signals.recv_timeout(Duration::from_millis(20)).is_ok() {
                self.stop();
                bail!("interrupted");
            }
        }
    }

    /// Ends it and waits until it is gone.
    pub(crate) fn stop(&mut self) {
        self.lifeline = None;
        let start = Instant::now();
        // Longer than any supervisor's own patience with its programs.
        while start.elapsed() < Duration::from_secs(30) {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        // Both fail only if the process is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Held {
    /// Ends a detached supervisor, which does not listen to its lifeline.
    pub(crate) fn terminate(&mut self) {
        process::signal(self.child.id(), Signal::TERM);
        self.stop();
    }

    /// Lets a detached supervisor go on without us.
    pub(crate) fn release(self) {
        std::mem::forget(self);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop();
    }
}
