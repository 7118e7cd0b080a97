//! The keys of the installation: from the environment, from files, or made in a data directory for development.
//!
//! Invariant: a key that is missing or malformed stops the start with a sentence, unless `KUBEOP_DEV_INSECURE` allows to make one.

use anyhow::{Context, bail};
use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const LENGTH: usize = 32;

/// A secret as it is given: its text, or a file that holds it.
pub(crate) struct Given<'a> {
    /// The environment variable that gives it.
    pub(crate) variable: &'a str,
    /// Its text.
    pub(crate) text: Option<&'a SecretString>,
    /// The file that holds it.
    pub(crate) file: Option<&'a PathBuf>,
}

impl Given<'_> {
    /// The text without white space around it, if it is given.
    pub(crate) fn text(&self) -> anyhow::Result<Option<String>> {
        Ok(match (self.text, self.file) {
            (Some(_), Some(_)) => bail!("{0} and {0}_FILE are both set: one is needed", self.variable),
            (Some(text), None) => Some(text.expose_secret().trim().to_owned()),
            (None, Some(path)) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("{}_FILE: failed to read {}", self.variable, path.display()))?;
                Some(text.trim().to_owned())
            }
            (None, None) => None,
        })
    }

    /// The key's bytes, if it is given; `exactly` 32 or at least 32.
    pub(crate) fn read(&self, exactly: bool) -> anyhow::Result<Option<SecretSlice<u8>>> {
        let Some(text) = self.text()? else { return Ok(None) };
        let bytes = BASE64_STANDARD.decode(text).ok().with_context(|| format!("{} is not base64", self.variable))?;
        let need = if exactly { "exactly" } else { "at least" };
        if bytes.len() < LENGTH || (exactly && bytes.len() != LENGTH) {
            bail!("{} decodes to {} bytes: {need} {LENGTH} are needed", self.variable, bytes.len());
        }
        Ok(Some(SecretSlice::from(bytes)))
    }
}

/// The key in `path`, which is made with mode 0600 if it is not there.
pub(crate) fn made(path: &Path) -> anyhow::Result<SecretSlice<u8>> {
    if !path.exists() {
        let mut bytes = [0; LENGTH];
        rand::fill(&mut bytes).ok().context("failed to draw a random key")?;
        // Written beside and linked, so that a crash leaves no half of a key.
        let draft = path.with_extension(format!("draft-{}", std::process::id()));
        let failed = || format!("failed to make {}", path.display());
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .with_context(failed)?;
        writeln!(file, "{}", BASE64_STANDARD.encode(bytes)).and_then(|()| file.sync_all()).with_context(failed)?;
        fs::hard_link(&draft, path).with_context(failed)?;
        fs::remove_file(&draft).with_context(failed)?;
        tracing::warn!(path = %path.display(), "made a key for development; keep it, or what it protects is lost");
    }
    kept(path)?.with_context(|| format!("{} is not there", path.display()))
}

/// The key in `path`, if there is one.
pub(crate) fn kept(path: &Path) -> anyhow::Result<Option<SecretSlice<u8>>> {
    if !path.exists() {
        return Ok(None);
    }
    let name = path.display().to_string();
    Given { variable: &name, text: None, file: Some(&path.to_path_buf()) }.read(false)
}
