//! One command of a longer run: a heading, the command's own output, the time it took. Ended with everything it started when we are interrupted.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::Receiver,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    environment, progress,
    supervise::{held::Held, lifeline::Event},
};

/// A command that runs beside others; its output is kept until it is waited for. Dropped, it is ended.
pub(crate) struct Beside {
    title: &'static str,
    start: Instant,
    held: Held,
    output: PathBuf,
}

/// Runs commands in the workspace.
pub(crate) struct Runner<'a> {
    pub(crate) executable: PathBuf,
    pub(crate) signals: &'a Receiver<Event>,
}

impl Runner<'_> {
    /// A cargo command in the workspace's root.
    pub(crate) fn cargo(arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(environment::variable("CARGO").unwrap_or_else(|| "cargo".to_owned()));
        command.args(arguments).current_dir(environment::workspace_root()?);
        if environment::is_ci() {
            command.env("CARGO_INCREMENTAL", "0");
        }
        // Ours describe this crate and would confuse what the command builds or starts.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
            command.env_remove(name);
        }
        Ok(command)
    }

    /// Runs a command under a heading; fails if it fails.
    pub(crate) fn run(&self, title: &str, command: &Command) -> Result<()> {
        progress::heading(title);
        let start = Instant::now();
        let status = Held::guard(&self.executable, command)?.finish(self.signals)?;
        if !status.success() {
            bail!("{title}: failed after {} ({status})", progress::since(start));
        }
        progress::note(&progress::since(start));
        Ok(())
    }

    /// Starts a command that others do not wait for, with its output in a file of this folder.
    pub(crate) fn beside(&self, title: &'static str, command: &Command, folder: &Path) -> Result<Beside> {
        progress::heading(&format!("{title}: begun beside the next steps"));
        let output = folder.join(format!("{}.log", title.replace(' ', "-")));
        let file = fs::create_dir_all(folder).and_then(|()| File::create(&output));
        let file = file.with_context(|| format!("cannot create {}", output.display()))?;
        let held = Held::guard_into(&self.executable, command, &file)?;
        Ok(Beside { title, start: Instant::now(), held, output })
    }

    /// Waits for such a command, tells what it printed, and fails if it failed.
    pub(crate) fn join(&self, beside: Beside) -> Result<()> {
        let Beside { title, start, held, output } = beside;
        progress::heading(title);
        let ended = held.finish(self.signals);
        let said = fs::read(&output).with_context(|| format!("cannot read {}", output.display()))?;
        eprintln!("{}", String::from_utf8_lossy(&said).trim_end());
        let status = ended?;
        if !status.success() {
            bail!("{title}: failed after {} ({status})", progress::since(start));
        }
        progress::note(&format!("{} since it was begun", progress::since(start)));
        Ok(())
    }
}

/// What a short command prints, without a heading; fails with its complaint if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} printed no text"))
}
