//! Where PostgreSQL's own `pg_dump` and `pg_restore` are: the fetched servers come without them, a system has them as a package of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::binaries;
use crate::environment;

/// The programs by which a database is backed up and restored, as docs/operations/run.md says.
const NEEDED: [&str; 4] = ["pg_dump", "pg_restore", "createdb", "dropdb"];

/// The directory of the tools, and their major version.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) directory: PathBuf,
    pub(super) major: u32,
}

/// The directory that a variable names, else Debian's of the newest version, else what is in `PATH`; none if there are none, or only such as no server
/// of ours is old enough for.
pub(super) fn find() -> Result<Option<Tools>> {
    if let Some(directory) = environment::path_variable("KUBEOP_TEST_POSTGRES_TOOLS") {
        if complete(&directory) {
            return at(directory).map(Some);
        }
        bail!("KUBEOP_TEST_POSTGRES_TOOLS names {}, which lacks one of {}", directory.display(), NEEDED.join(", "));
    }
    let in_path = environment::program("pg_dump").and_then(|program| program.parent().map(Path::to_path_buf));
    let Some(directory) = packaged().or_else(|| in_path.filter(|directory| complete(directory))) else {
        return Ok(None);
    };
    let tools = at(directory)?;
    Ok(binaries::at_most(tools.major).is_ok().then_some(tools))
}

fn complete(directory: &Path) -> bool {
    NEEDED.iter().all(|program| directory.join(program).is_file())
}

fn at(directory: PathBuf) -> Result<Tools> {
    let program = directory.join("pg_dump");
    let failed = || format!("cannot run {}", program.display());
    let output = Command::new(&program).arg("--version").output().with_context(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let major = major(&text).with_context(|| format!("{} says it is {text:?}", program.display()))?;
    Ok(Tools { directory, major })
}

/// Debian keeps the programs of each major version in a directory of their own.
fn packaged() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found =
        versions.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))));
    found.filter(|(_, directory)| complete(directory)).max().map(|(_, directory)| directory)
}

/// Of `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    number.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read() {
        for (text, number) in [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some(15)),
            ("pg_dump (PostgreSQL) 19beta1\n", Some(19)),
            ("pg_dump 15", None),
        ] {
            assert_eq!(major(text), number, "{text}");
        }
    }
}
