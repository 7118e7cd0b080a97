//! Where PostgreSQL's programs are: in the directory a variable names, else in the cache, where they are fetched when missing, else an installed PostgreSQL.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{
    environment, progress,
    supervise::tied::{self, Farewell},
};

/// A server, fixed so that a run today and one next year see the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pinned {
    pub(super) major: u32,
    version: &'static str,
}

/// What the tests run on.
pub(super) const SERVER: Pinned = Pinned { major: 17, version: "17.11.0" };
/// What dumps are made of where the system's `pg_dump` is older than that: it refuses a server newer than itself.
const EARLIER: Pinned = Pinned { major: 15, version: "15.19.0" };
/// The programs a server needs.
const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// The newest of our servers that tools of a major version understand.
pub(super) fn at_most(major: u32) -> Result<Pinned> {
    [SERVER, EARLIER].into_iter().find(|pinned| pinned.major <= major).with_context(|| {
        format!("there is no server for tools of PostgreSQL {major}: those of {} or later are needed", EARLIER.major)
    })
}

/// The directory with the programs of [`SERVER`], or of what stands in for it.
pub(crate) fn resolve() -> Result<PathBuf> {
    if let Some(directory) = environment::path_variable("KUBEOP_TEST_POSTGRES_BIN") {
        if complete(&directory) {
            return Ok(directory);
        }
        bail!("KUBEOP_TEST_POSTGRES_BIN names {}, which lacks one of {}", directory.display(), NEEDED.join(", "));
    }
    let outcome = cached(SERVER);
    if outcome.is_ok() {
        return outcome;
    }
    if let Some(found) = installed() {
        progress::note(&format!(
            "PostgreSQL {} could not be fetched; using the installed one in {}",
            SERVER.version,
            found.display()
        ));
        return Ok(found);
    }
    outcome
}

/// The directory with the programs of this very server, which is fetched into the cache if it is not there.
pub(super) fn cached(pinned: Pinned) -> Result<PathBuf> {
    let cache = environment::cache_directory()?.join("postgres");
    let directory = cache.join(pinned.version);
    let programs = directory.join("bin");
    if complete(&programs) {
        return Ok(programs);
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let lock = cache.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock)
        .with_context(|| format!("cannot open {}", lock.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", lock.display()))?;
    if !complete(&programs) {
        fetch(pinned.version, &cache, &directory)?;
    }
    if complete(&programs) {
        return Ok(programs);
    }
    bail!("the PostgreSQL archive lacks one of {}: remove {} and try again", NEEDED.join(", "), directory.display())
}

fn complete(directory: &Path) -> bool {
    NEEDED.iter().all(|program| directory.join(program).is_file())
}

/// Builds and runs the fetcher, a program of its own so that this tool compiles without an HTTP client.
fn fetch(version: &str, cache: &Path, directory: &Path) -> Result<()> {
    progress::note(&format!(
        "fetching PostgreSQL {version} once, for the tests (the fetcher is compiled first: one to three minutes)"
    ));
    let start = Instant::now();
    let staging = cache.join("staging");
    if staging.exists() {
        fs::remove_dir_all(&staging).with_context(|| format!("cannot remove {}", staging.display()))?;
    }
    let cargo = environment::program("cargo").context("cargo is not in PATH")?;
    let status = tied::command(&environment::own_executable()?, Farewell::Term, &cargo)
        .args([
            "run",
            "--quiet",
            "--package",
            "xtask",
            "--features",
            "fetch-postgres",
            "--bin",
            "fetch-postgres",
            "--",
            version,
        ])
        .arg(&staging)
        .current_dir(environment::workspace_root()?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!(
            "PostgreSQL {version} could not be fetched: check the network, or name a running server in KUBEOP_TEST_POSTGRES_URL or a directory with initdb, pg_ctl and postgres in KUBEOP_TEST_POSTGRES_BIN"
        );
    }
    fs::rename(&staging, directory)
        .with_context(|| format!("cannot move {} to {}", staging.display(), directory.display()))?;
    progress::note(&format!("PostgreSQL {version} is in the cache: {}", progress::since(start)));
    Ok(())
}

/// The newest PostgreSQL of the system that can be found: Debian keeps one directory per major version outside of `PATH`.
fn installed() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, directory)| complete(directory))
        .collect();
    found.sort();
    let in_path = || {
        environment::program("postgres")
            .and_then(|program| program.parent().map(Path::to_path_buf))
            .filter(|directory| complete(directory))
    };
    found.pop().map(|(_, directory)| directory).or_else(in_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_get_a_server_that_is_not_newer() {
        for (tools, server) in [(15, EARLIER), (16, EARLIER), (17, SERVER), (18, SERVER)] {
            assert_eq!(at_most(tools).unwrap(), server);
        }
        let error = at_most(14).unwrap_err().to_string();
        assert!(error.contains("14") && error.contains("15"), "{error}");
    }
}
