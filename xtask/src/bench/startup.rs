//! From the start of the process to `/readyz`, each time on an empty SQLite database (so migrations are included).

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};

use super::daemon::Daemon;
use crate::supervise::workdir::WorkDir;

pub(super) fn measure(kubeop: &Path, scratch: &WorkDir, runs: u32) -> Result<Vec<Duration>> {
    (0..runs)
        .map(|run| {
            let data = scratch.file(&format!("start-{run}"));
            fs::create_dir(&data).with_context(|| format!("cannot create {}", data.display()))?;
            Ok(Daemon::start(kubeop, "manager", &data, None)?.ready_after)
        })
        .collect()
}
