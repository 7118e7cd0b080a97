//! A folder of a test, removed when it is dropped or when the test process has ended in whatever way.

use anyhow::{Context, Result};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

static BASE: Mutex<Option<(PathBuf, Child)>> = Mutex::new(None);
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A folder with mode 0700.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder; `name` is for people.
    pub fn new(name: &str) -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = base()?.join(format!("{name}-{number}"));
        make(&path)?;
        Ok(Self { path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is removed with the process' own folder.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn make(path: &Path) -> Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path).with_context(|| format!("cannot create {}", path.display()))
}

/// This process' folder, with a child that outlives us by a moment and removes it.
fn base() -> Result<PathBuf> {
    let mut held = BASE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, _)) = &*held {
        return Ok(path.clone());
    }
    let path = std::env::temp_dir().join(format!("kubeop-e2e-{}", std::process::id()));
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {} of an earlier process", path.display()));
        }
        _ => make(&path)?,
    }
    // The read ends when our end of the pipe closes, and that is when we are gone; the second removal is for what dying children still wrote.
    let janitor = Command::new("sh")
        .args(["-c", r#"read -r _; rm -rf -- "$1"; sleep 3; rm -rf -- "$1""#, "sh"])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start sh")?;
    *held = Some((path.clone(), janitor));
    Ok(path)
}
