//! `kubeop backup`.
//!
//! Invariant: beside a running manager, which it does not disturb; nothing is left of a backup that did not succeed.

use crate::cli::BackupArgs;
use anyhow::{Context, bail};
use kubeop_store::{Store, backup::backup};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// Copies the database into a file, or to stdout.
pub(crate) async fn run(args: BackupArgs) -> anyhow::Result<()> {
    let url = args.database.existing();
    if !Store::is_there(&url) {
        bail!("KUBEOP_DB_URL: there is no database {url}");
    }
    if args.file.as_os_str() != "-" {
        backup(&url, &args.file).await.map_err(kubeop_core::Error::from)?;
        return Ok(());
    }
    if io::stdout().is_terminal() {
        bail!("a database is no text for a terminal: send it to a file, as in `kubeop backup - > kubeop.db`");
    }
    // Beside the database, which may be the only place that can be written, as in our image.
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).map(Path::new);
    let folder = path.and_then(Path::parent).unwrap_or(&args.database.data_dir);
    let between = folder.join(format!("backup-{}.db", std::process::id()));
    backup(&url, &between).await.map_err(kubeop_core::Error::from)?;
    send(&between)
}

/// Writes the file to stdout and removes it.
fn send(path: &Path) -> anyhow::Result<()> {
    let opened = File::open(path);
    fs::remove_file(path).with_context(|| format!("failed to remove {}", path.display()))?;
    let mut file = opened.with_context(|| format!("failed to read {}", path.display()))?;
    let mut stdout = io::stdout().lock();
    io::copy(&mut file, &mut stdout).and_then(|_| stdout.flush()).context("failed to write to stdout")
}
