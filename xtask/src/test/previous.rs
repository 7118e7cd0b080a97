//! The release before this one: its executable and chart, made of its commit once and kept in the cache, so that upgrades and releases side by side
//! are tested with the real thing.
//!
//! Invariant: a release in the cache is whole; its folder is put in place by one rename.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{
    environment,
    image::target::{self, Target},
    progress,
    step::{Runner, output},
};

/// The commit of the last release. Changed when there is another one.
const COMMIT: &str = "d9081c6ab784d8c775c8f1b71441507376c06a33";

/// A release.
pub(crate) struct Release {
    folder: PathBuf,
}

impl Release {
    /// Its static executable.
    pub(crate) fn kubeop(&self) -> PathBuf {
        self.folder.join("kubeop")
    }

    /// Its Helm chart.
    pub(crate) fn chart(&self) -> PathBuf {
        self.folder.join("chart")
    }
}

/// The release before this one; `None`, with a word about it, where the history does not hold its commit.
///
/// Before the workspace is built: the dependencies that both have are compiled once, and what cargo shows as the workspace's executable is this release's
/// in the end.
pub(crate) fn resolve(runner: &Runner<'_>, target: &Target) -> Result<Option<Release>> {
    let all = environment::cache_directory()?.join("releases");
    let release = Release { folder: all.join(COMMIT) };
    if release.folder.is_dir() {
        return Ok(Some(release));
    }
    if let Err(said) = held()? {
        progress::heading(&format!(
            "upgrades from the release before this one: skipped: commit {COMMIT} cannot be had: {said}"
        ));
        return Ok(None);
    }
    fs::create_dir_all(&all).with_context(|| format!("cannot create {}", all.display()))?;
    let lock = all.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&lock);
    let file = file.with_context(|| format!("cannot open {}", lock.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", lock.display()))?;
    if release.folder.is_dir() {
        return Ok(Some(release));
    }
    let source = target::root()?.join("previous");
    unpack(&source)?;
    let manifest = source.join("Cargo.toml");
    // Examples, of which there are none, so that features of dependencies are those of the workspace's tests, and nothing is compiled twice.
    let mut command = target.cargo(&["build"], &["--workspace", "--bin", "kubeop", "--examples"])?;
    command.arg("--manifest-path").arg(&manifest).arg("--target-dir").arg(target::root()?).current_dir(&source);
    runner.run("build of the release before this one, once", &command)?;

    let staging = all.join("staging");
    if staging.exists() {
        fs::remove_dir_all(&staging).with_context(|| format!("cannot remove {}", staging.display()))?;
    }
    fs::create_dir_all(&staging).with_context(|| format!("cannot create {}", staging.display()))?;
    let built = target.directory("debug")?.join("kubeop");
    fs::copy(&built, staging.join("kubeop")).with_context(|| format!("cannot copy {}", built.display()))?;
    let chart = source.join("charts/kubeop");
    output(Command::new("cp").arg("-R").arg(&chart).arg(staging.join("chart")))?;
    fs::remove_dir_all(&source).with_context(|| format!("cannot remove {}", source.display()))?;
    fs::rename(&staging, &release.folder)
        .with_context(|| format!("cannot put {} in place", release.folder.display()))?;
    Ok(Some(release))
}

/// Whether the commit is there, or can be fetched; else what git said.
fn held() -> Result<Result<(), String>> {
    let commit = format!("{COMMIT}^{{commit}}");
    let look = || git(&["cat-file", "-e", &commit]);
    if look()?.is_ok() {
        return Ok(Ok(()));
    }
    if let Err(said) = git(&["fetch", "--quiet", "--depth=1", "origin", COMMIT])? {
        return Ok(Err(said));
    }
    look()
}

fn git(arguments: &[&str]) -> Result<Result<(), String>> {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(environment::workspace_root()?).env("GIT_TERMINAL_PROMPT", "0");
    let output = command.stdin(Stdio::null()).output().context("cannot run git")?;
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
    Ok(if output.status.success() { Ok(()) } else { Err(said) })
}

/// The release's sources, in a folder of their own.
fn unpack(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let archive = folder.join("sources.tar");
    output(
        Command::new("git")
            .args(["archive", "--format=tar", "--output"])
            .arg(&archive)
            .arg(COMMIT)
            .current_dir(environment::workspace_root()?),
    )?;
    // With the time of now: cargo would take sources that are as old as their commit for compiled.
    output(Command::new("tar").arg("-xmf").arg(&archive).current_dir(folder))?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
}
