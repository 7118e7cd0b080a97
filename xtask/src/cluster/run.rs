//! `cluster run`: the supervisor of one test cluster.
//!
//! Protocol with a harness: it holds our standard input open; we print `ready` once, after `kubeconfig` is written. A line `stop <program>` or
//! `start <program>` is answered by `ok` or `error: ...`; the same lines are taken by the socket `control` ([`super::control`]). End of input, SIGTERM or SIGINT ends the cluster and removes all it made.

use std::{
    fs,
    io::{Write as _, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::{
    Limits, Node, binaries,
    control::{self, Control},
    instance::{Instance, Parts},
    node::{self, programs::Programs},
};
use crate::{
    environment,
    supervise::{
        lifeline::{self, Event, Tie},
        workdir::{self, WorkDir},
    },
};

/// Arguments of `cluster run`.
#[derive(Args)]
pub(crate) struct Options {
    /// Name of the instance (default: made from the process id).
    #[arg(long)]
    name: Option<String>,
    /// Also write the administrator's kubeconfig here; removed again at the end.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Do not end with standard input.
    #[arg(long)]
    detached: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    node: Node,
}

/// Runs the cluster to its end.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let executable = environment::own_executable()?;
    let events = lifeline::watch(if options.detached { Tie::Detached } else { Tie::Stdin })?;
    let binaries = binaries::resolve()?;
    let name = options.name.clone().unwrap_or_else(|| format!("run-{}", std::process::id()));
    let programs = if options.node.wanted {
        if let Err(reason) = node::requirements::install_if(options.node.install)? {
            return super::unavailable(&reason);
        }
        Some(Programs::resolve()?)
    } else {
        None
    };
    // Given back last, after the directory and all that belongs to it.
    let _claim = programs.as_ref().map(|_| node::Claim::take(&name)).transpose()?;
    let directory = WorkDir::claim("cluster", &name, 0o700)?;
    let parts = Parts {
        binaries: &binaries,
        executable: &executable,
        limits: options.limits,
        node: programs.as_ref().map(|programs| (programs, options.node.wait)),
    };
    let mut instance = Instance::start(&directory, parts, &events)?;
    let control = Control::listen(directory.path())?;
    let copy = options.kubeconfig.as_deref().map(|path| Copy::write(path, &instance.kubeconfig())).transpose()?;
    fs::write(directory.file("server"), instance.server()).context("cannot note the server's address")?;
    say("ready")?;
    let outcome = serve(&mut instance, &control, &events);
    drop(copy);
    drop(instance);
    outcome.map(|()| ExitCode::SUCCESS)
}

fn serve(instance: &mut Instance<'_>, control: &Control, events: &Receiver<Event>) -> Result<()> {
    loop {
        match events.recv_timeout(Duration::from_millis(100)) {
            Ok(Event::ParentGone | Event::Signal) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => instance.check()?,
            Ok(Event::Line(line)) => say(&obey(instance, &line, events))?,
        }
        while let Some((line, stream)) = control.asked() {
            control::answer(stream, &obey(instance, &line, events));
        }
    }
}

/// Does what a line says; returns the answer.
fn obey(instance: &mut Instance<'_>, line: &str, events: &Receiver<Event>) -> String {
    match command(instance, line, events) {
        Ok(()) => "ok".to_owned(),
        Err(error) => format!("error: {}", format!("{error:#}").replace('\n', " ")),
    }
}

fn command(instance: &mut Instance<'_>, line: &str, events: &Receiver<Event>) -> Result<()> {
    match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["stop", program] => instance.stop_program(program),
        ["start", program] => instance.start_program(program, events),
        _ => bail!("unknown line {line:?}: send `stop <program>` or `start <program>`"),
    }
}

fn say(line: &str) -> Result<()> {
    let mut output = stdout().lock();
    // A harness that no longer listens has also closed our lifeline, which ends us in order.
    writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .or_else(|error| if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
        .context("cannot write to standard output")
}

/// The kubeconfig where the user wants it; removed at the end unless somebody else has written it since.
struct Copy<'a> {
    path: &'a Path,
    text: String,
}

impl<'a> Copy<'a> {
    fn write(path: &'a Path, from: &Path) -> Result<Self> {
        let text = fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
        workdir::write_private(path, &text)?;
        Ok(Self { path, text })
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        if fs::read_to_string(self.path).is_ok_and(|text| text == self.text) {
            // If it cannot be removed it names a server that no longer exists: harmless.
            let _ = fs::remove_file(self.path);
        }
    }
}
