//! One command of a longer run: a heading, the command's own output, the time it took. Ended with everything it started when we are interrupted.

use std::{path::PathBuf, process::Command, sync::mpsc::Receiver, time::Instant};

use anyhow::{Result, bail};

use crate::{
    environment, progress,
    supervise::{held::Held, lifeline::Event},
};

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
}
