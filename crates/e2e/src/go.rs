//! The Go modules of `testcluster` that a test builds or reads when it needs them; Go's own cache keeps what was built.

use crate::environment::repository;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A module's folder below `testcluster`.
pub fn folder(name: &str) -> PathBuf {
    repository().join("testcluster").join(name)
}

/// What Go prints in a module's folder; fails with what it complains of unless it exits with 0.
pub async fn stdout(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("go");
    command.args(arguments).current_dir(folder).envs([
        ("GOWORK", "off"),
        ("GOFLAGS", "-mod=readonly"),
        ("CGO_ENABLED", "0"),
    ]);
    let shown = arguments.join(" ");
    tokio::task::spawn_blocking(move || {
        let output = command.output().context("cannot start go")?;
        if !output.status.success() {
            bail!("go {shown}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    })
    .await?
}

/// Where the release of a dependency is that a module of `testcluster` pins; it is downloaded if it is not there.
pub async fn dependency(name: &str, path: &str) -> Result<PathBuf> {
    let told = stdout(&folder(name), &["mod", "download", "-json", path]).await?;
    let told: Value = serde_json::from_str(&told).context("go mod download")?;
    let folder = told.get("Dir").and_then(Value::as_str).map(PathBuf::from);
    folder.with_context(|| format!("go mod download {path}: {told}"))
}
