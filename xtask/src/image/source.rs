//! What an image is made from: version, commit, and the time that stands for all of its times.

use std::process::Command;

use anyhow::{Context, Result};

use crate::environment;
use crate::step::output;

/// The state of the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) version: &'static str,
    /// Full commit id, with `-dirty` if the tree has other changes; `unknown` outside a repository.
    pub(crate) revision: String,
    /// Seconds since 1970: `SOURCE_DATE_EPOCH`, or the commit's time. <https://reproducible-builds.org/specs/source-date-epoch/>
    pub(crate) epoch: u64,
}

impl Source {
    pub(crate) fn read() -> Result<Self> {
        let root = environment::workspace_root()?;
        let git = |arguments: &[&str]| {
            output(Command::new("git").args(arguments).current_dir(&root)).map(|text| text.trim().to_owned())
        };
        let revision = match git(&["rev-parse", "HEAD"]) {
            Ok(commit) if git(&["status", "--porcelain"])?.is_empty() => commit,
            Ok(commit) => format!("{commit}-dirty"),
            Err(_) => "unknown".to_owned(),
        };
        let epoch = match environment::variable("SOURCE_DATE_EPOCH") {
            Some(given) => given
                .parse()
                .with_context(|| format!("SOURCE_DATE_EPOCH is {given:?}: it must be whole seconds since 1970"))?,
            None => git(&["show", "--no-patch", "--format=%ct", "HEAD"])
                .context("outside a repository SOURCE_DATE_EPOCH must be set")?
                .parse()
                .context("git printed no time")?,
        };
        Ok(Self { version: env!("CARGO_PKG_VERSION"), revision, epoch })
    }
}
