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

/// What the tests run on, fixed so that a run today and one next year see the same server.
const VERSION: &str = "17.11.0";
/// The programs a server needs.
const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// The directory with the programs.
pub(crate) fn resolve() -> Result<PathBuf> {
    if let Some(directory) = environment::path_variable("KUBEOP_TEST_POSTGRES_BIN") {
        if complete(&directory) {
            return Ok(directory);
        }
        bail!("KUBEOP_TEST_POSTGRES_BIN names {}, which lacks one of {}", directory.display(), NEEDED.join(", "));
    }
    let cache = environment::cache_directory()?.join("postgres");
    let directory = cache.join(VERSION);
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
    if complete(&programs) {
        return Ok(programs);
    }
    let outcome = fetch(&cache, &directory);
    if complete(&programs) {
        return Ok(programs);
    }
    if let Some(found) = installed() {
        progress::note(&format!(
            "PostgreSQL {VERSION} could not be fetched; using the installed one in {}",
            found.display()
        ));
        return Ok(found);
    }
    outcome?;
    bail!("the PostgreSQL archive lacks one of {}: remove {} and try again", NEEDED.join(", "), directory.display())
}

fn complete(directory: &Path) -> bool {
    NEEDED.iter().all(|program| directory.join(program).is_file())
}

/// Builds and runs the fetcher, a program of its own so that this tool compiles without an HTTP client.
fn fetch(cache: &Path, directory: &Path) -> Result<()> {
    progress::note(&format!(
        "fetching PostgreSQL {VERSION} once, for the tests (the fetcher is compiled first: one to three minutes)"
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
            VERSION,
        ])
        .arg(&staging)
        .current_dir(environment::workspace_root()?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!(
            "PostgreSQL {VERSION} could not be fetched: check the network, or name a running server in KUBEOP_TEST_POSTGRES_URL or a directory with initdb, pg_ctl and postgres in KUBEOP_TEST_POSTGRES_BIN"
        );
    }
    fs::rename(&staging, directory)
        .with_context(|| format!("cannot move {} to {}", staging.display(), directory.display()))?;
    progress::note(&format!("PostgreSQL {VERSION} is in the cache: {}", progress::since(start)));
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
