//! What the tool takes from its surroundings: environment variables, the workspace's and the cache's directories. The only module that reads the environment.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// The value of an environment variable; unset, empty and undecodable are the same.
#[expect(
    clippy::disallowed_methods,
    reason = "xtask is an executable; this is its one place that reads the environment"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The path named by an environment variable, made absolute.
pub(crate) fn path_variable(name: &str) -> Option<PathBuf> {
    variable(name).map(|value| std::path::absolute(&value).unwrap_or_else(|_| PathBuf::from(value)))
}

/// Whether this is a run without a person in front of it.
pub(crate) fn is_ci() -> bool {
    variable("CI").is_some_and(|value| value != "false" && value != "0")
}

/// The root of the workspace: the parent of this crate's directory, as it was when the tool was built.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    let own = variable("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    for candidate in own.ancestors().chain(Path::new(env!("CARGO_MANIFEST_DIR")).ancestors()) {
        if candidate.join("testcluster/go.mod").is_file() && candidate.join("Cargo.toml").is_file() {
            return Ok(candidate.to_path_buf());
        }
    }
    bail!("cannot find the kubeOP workspace (a folder with Cargo.toml and testcluster/go.mod) above {}", own.display())
}

/// Where `cargo build` puts what it builds in the development profile: beside this executable.
pub(crate) fn target_directory() -> Result<PathBuf> {
    own_executable()?.parent().map(Path::to_path_buf).context("this executable is in no directory")
}

/// `$XDG_CACHE_HOME/kubeop` or `~/.cache/kubeop`, created if need be.
pub(crate) fn cache_directory() -> Result<PathBuf> {
    let base = match path_variable("XDG_CACHE_HOME") {
        Some(cache) => cache,
        None => path_variable("HOME")
            .context("neither XDG_CACHE_HOME nor HOME is set: set one, the test cluster is cached below it")?
            .join(".cache"),
    };
    let directory = base.join("kubeop");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create the cache directory {}", directory.display()))?;
    Ok(directory)
}

/// The program named `name` in `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = variable("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}

/// This executable. Asked once at the start of a command: the answer changes when cargo rebuilds the tool meanwhile.
pub(crate) fn own_executable() -> Result<PathBuf> {
    let path = env::current_exe().context("cannot tell where this executable is")?;
    let text = path.to_string_lossy();
    // Linux appends this to the name of a file that was replaced; the replacement is as good.
    match text.strip_suffix(" (deleted)") {
        Some(replaced) => Ok(PathBuf::from(replaced)),
        None => Ok(path),
    }
}
