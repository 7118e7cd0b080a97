//! The keys of the installation: from the environment, from files, or made in a data directory for development.
//!
//! Invariant: a key that is missing or malformed stops the start with a sentence, unless `KUBEOP_DEV_INSECURE` allows to make one.

use anyhow::{Context, bail};
use aws_lc_rs::rand;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use std::fs;
use std::io::{ErrorKind, Write};
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

/// A new key, as the variables take it.
pub(crate) fn generate() -> anyhow::Result<SecretString> {
    let mut bytes = [0; LENGTH];
    rand::fill(&mut bytes).ok().context("failed to draw a random key")?;
    Ok(SecretString::from(BASE64_STANDARD.encode(bytes)))
}

/// The key in `path`, which is made with mode 0600 if it is not there. Of any number of processes that do so at once all get the same key.
pub(crate) fn made(path: &Path) -> anyhow::Result<SecretSlice<u8>> {
    if let Some(key) = kept(path)? {
        return Ok(key);
    }
    let failed = || format!("failed to make {}", path.display());
    // Written beside under a name of its own (processes in containers share their number) and linked, which succeeds for one of all and leaves
    // no half of a key.
    let mut suffix = [0; 8];
    rand::fill(&mut suffix).ok().context("failed to draw a random name")?;
    let draft = path.with_extension(format!("draft-{:016x}", u64::from_ne_bytes(suffix)));
    let linked = write_new(&draft).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true).with_context(failed),
    });
    let removed = fs::remove_file(&draft);
    if linked.with_context(failed)? {
        removed.with_context(failed)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::File::open(folder).and_then(|folder| folder.sync_all()).with_context(failed)?;
        }
        tracing::warn!(path = %path.display(), "made a key for development; keep it, or what it protects is lost");
    }
    kept(path)?.with_context(|| format!("{} is not there", path.display()))
}

fn write_new(path: &Path) -> anyhow::Result<()> {
    let key = generate()?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", key.expose_secret())?;
    Ok(file.sync_all()?)
}

/// The key in `path`, if there is one.
pub(crate) fn kept(path: &Path) -> anyhow::Result<Option<SecretSlice<u8>>> {
    if !path.exists() {
        return Ok(None);
    }
    let name = path.display().to_string();
    Given { variable: &name, text: None, file: Some(&path.to_path_buf()) }.read(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Arc, Barrier};

    #[test]
    fn of_many_who_make_a_key_at_once_all_get_the_same() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("some.key");
            let start = Arc::new(Barrier::new(16));
            let makers: Vec<_> = (0..16)
                .map(|_| {
                    let (path, start) = (path.clone(), Arc::clone(&start));
                    std::thread::spawn(move || {
                        start.wait();
                        made(&path).unwrap().expose_secret().to_vec()
                    })
                })
                .collect();
            let mut keys: Vec<_> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
            keys.dedup();
            assert_eq!((keys.len(), keys[0].len()), (1, LENGTH));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
            assert_eq!(made(&path).unwrap().expose_secret(), &keys[0], "and it stays");
        }
    }

    #[test]
    fn a_key_that_is_cut_off_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.key");
        for text in ["", "\n", "AAAA", "not base64 !", "\u{0}"] {
            fs::write(&path, text).unwrap();
            assert!(made(&path).is_err(), "{text:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_key_has_the_length_that_is_needed_and_is_never_quoted() {
        let read = |text: &str, exactly: bool| {
            let text = SecretString::from(text.to_owned());
            Given { variable: "KEY", text: Some(&text), file: None }.read(exactly)
        };
        let of = |length: usize| BASE64_STANDARD.encode(vec![0xA5; length]);
        assert!(read(&of(32), true).is_ok() && read(&format!(" {}\n", of(32)), true).is_ok());
        assert!(read(&of(33), true).is_err() && read(&of(33), false).is_ok());
        for text in [of(31), of(16), of(0), "paaaaaaaaaaaaaassword".into(), of(32).replace('=', "")] {
            let error = format!("{:#}", read(&text, false).err().unwrap());
            assert!(error.starts_with("KEY "), "{error}");
            assert!(text.is_empty() || !error.contains(&text), "{error}");
        }
        let generated = generate().unwrap();
        assert!(read(generated.expose_secret(), true).is_ok());
    }
}
