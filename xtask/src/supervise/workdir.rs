//! The directory of one running instance, below a directory of this user in the system's temporary directory.
//!
//! Invariant: a directory whose `lock` nobody holds belongs to nobody; its processes may be ended and it may be removed. The kernel releases a lock when its
//! holder dies, however it dies.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::{leftovers, process};

/// A claimed directory; dropping it removes it.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    base: PathBuf,
    _lock: File,
}

/// A directory somebody holds.
pub(crate) struct Live {
    /// Its name, without the kind.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The supervisor, once it has written its id.
    pub(crate) supervisor: Option<u32>,
}

/// Where this user's instances live: `/tmp/kubeop-<uid>`. Others may pass through (PostgreSQL runs as another user) but not list it.
pub(crate) fn base() -> Result<PathBuf> {
    base_in(&std::env::temp_dir())
}

fn base_in(temporary: &Path) -> Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let path = temporary.join(format!("kubeop-{uid}"));
    match DirBuilder::new().mode(0o711).create(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
    }
    let found = fs::symlink_metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if !found.is_dir() || found.uid() != uid {
        bail!("{} is not a directory of yours: remove it, or point TMPDIR elsewhere", path.display());
    }
    Ok(path)
}

/// Names are part of paths and of messages.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= 40
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits { Ok(()) } else { bail!("the name {name:?} does not fit: use 1 to 40 of a-z, 0-9 and -") }
}

impl WorkDir {
    /// Claims `<kind>-<name>`, after removing what dead supervisors left behind. The directory is readable by nobody else unless `mode` says so.
    pub(crate) fn claim(kind: &str, name: &str, mode: u32) -> Result<Self> {
        Self::claim_in(base()?, kind, name, mode)
    }

    fn claim_in(base: PathBuf, kind: &str, name: &str, mode: u32) -> Result<Self> {
        check_name(name)?;
        let _registry = registry(&base)?;
        sweep_locked(&base)?;
        let path = base.join(format!("{kind}-{name}"));
        match DirBuilder::new().mode(mode).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                bail!("a {kind} named {name:?} is running already ({})", path.display())
            }
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", path.display())),
        }
        let lock = open_lock(&path)?;
        lock.try_lock().with_context(|| format!("cannot lock {}", path.display()))?;
        let directory = Self { path, base, _lock: lock };
        directory.record(std::process::id())?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Notes a process id, so that a later sweep can end it. The first one noted is the supervisor itself.
    pub(crate) fn record(&self, id: u32) -> Result<()> {
        let path = self.file("pids");
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        writeln!(file, "{id}").with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let registry = registry(&self.base);
        if let Err(error) = remove(&self.path) {
            // A detached supervisor has nobody to tell.
            let _ = writeln!(std::io::stderr(), "warning: {error:#}");
        }
        drop(registry);
    }
}

/// Removes what dead supervisors left behind: first their processes, then their directories.
pub(crate) fn sweep() -> Result<()> {
    let base = base()?;
    let _registry = registry(&base)?;
    sweep_locked(&base)
}

/// The instances of a kind that are running now.
pub(crate) fn live(kind: &str) -> Result<Vec<Live>> {
    let base = base()?;
    let _registry = registry(&base)?;
    let prefix = format!("{kind}-");
    let mut found = Vec::new();
    for path in directories(&base)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(&prefix))
        else {
            continue;
        };
        if is_held(&path)? {
            found.push(Live { name: name.to_owned(), supervisor: pids(&path).first().copied(), path: path.clone() });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Waits until nobody holds the directory; false after `limit`.
pub(crate) fn wait_released(path: &Path, limit: Duration) -> Result<bool> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if !path.exists() || !is_held(path)? {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(false)
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The lock that makes claiming, sweeping and removing one at a time.
fn registry(base: &Path) -> Result<File> {
    let path = base.join("registry");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn open_lock(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn is_held(directory: &Path) -> Result<bool> {
    match open_lock(directory)?.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", directory.display())),
    }
}

fn directories(base: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(base).with_context(|| format!("cannot list {}", base.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", base.display()))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn pids(directory: &Path) -> Vec<u32> {
    let text = fs::read_to_string(directory.join("pids")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn sweep_locked(base: &Path) -> Result<()> {
    for path in directories(base)? {
        if is_held(&path)? {
            continue;
        }
        let left: Vec<u32> = pids(&path).into_iter().filter(|id| process::belongs_to(*id, &path)).collect();
        for id in &left {
            process::signal(*id, Signal::KILL);
        }
        let start = Instant::now();
        while left.iter().any(|id| process::belongs_to(*id, &path)) && start.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(20));
        }
        remove(&path)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    leftovers::clean(path)?;
    // A program that is just ending may still create a file while its directory is emptied.
    for attempt in 0.. {
        match fs::remove_dir_all(path) {
            Ok(()) => break,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            Err(_) if attempt < 20 => thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(error).with_context(|| format!("cannot remove {}", path.display())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::ExitStatusExt as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_claimed_name_is_taken_until_dropped() {
        let temporary = tempfile::tempdir().unwrap();
        let base = base_in(temporary.path()).unwrap();
        let first = WorkDir::claim_in(base.clone(), "cluster", "one", 0o700).unwrap();
        let second = WorkDir::claim_in(base.clone(), "cluster", "one", 0o700).unwrap_err().to_string();
        assert!(second.contains("is running already"), "{second}");
        WorkDir::claim_in(base.clone(), "cluster", "two", 0o700).unwrap();
        let path = first.path().to_owned();
        assert!(path.is_dir());
        drop(first);
        assert!(!path.exists());
        WorkDir::claim_in(base, "cluster", "one", 0o700).unwrap();
    }

    #[test]
    fn the_next_claim_ends_and_removes_what_a_dead_supervisor_left() {
        let temporary = tempfile::tempdir().unwrap();
        let base = base_in(temporary.path()).unwrap();
        let left = base.join("cluster-dead");
        fs::create_dir(&left).unwrap();
        // A process whose arguments name the directory, and one whose id is recorded but which is somebody else's.
        let pids = left.join("pids");
        fs::write(&pids, "1\n").unwrap();
        let mut ours = Command::new("sh").args(["-c", "read line"]).arg(&left).stdin(Stdio::piped()).spawn().unwrap();
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(&pids, format!("1\n{}\n{}\n", ours.id(), other.id())).unwrap();
        // A program's arguments are visible a moment after its start.
        while !process::belongs_to(ours.id(), &left) {
            thread::sleep(Duration::from_millis(1));
        }
        // Holding its input keeps it running; not burying it keeps it a zombie, which counts as ended.
        let _input = ours.stdin.take();
        WorkDir::claim_in(base, "cluster", "new", 0o700).unwrap();
        assert!(!left.exists());
        let status = (0..500).find_map(|_| {
            thread::sleep(Duration::from_millis(10));
            ours.try_wait().unwrap()
        });
        ours.kill().unwrap();
        assert_eq!(status.and_then(|status| status.signal()), Some(9));
        assert!(other.try_wait().unwrap().is_none(), "a process that does not name the directory must live");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn names_are_plain() {
        for good in ["default", "run-17", "a"] {
            check_name(good).unwrap();
        }
        for bad in ["", "A", "../x", "a b", "a/b", &"x".repeat(41)] {
            check_name(bad).unwrap_err();
        }
    }
}
