//! The file of a SQLite database: its folder and mode, its lock, whether it is sound, and whether it is still the one that was opened.
//!
//! Invariant: a file that is damaged, or that another process holds, is refused before anything is written to it.

use crate::{Result, StoreError, sql};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// Up to this size a file is checked at every start (0.3 s at 100 MiB); a larger one only where its last process did not close it.
const ALWAYS_CHECKED: u64 = 64 << 20;

/// A file that this process holds, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    identity: Identity,
    _lock: File,
}

/// What tells a file from another one under its name.
type Identity = (u64, u64);

impl Held {
    /// Makes folder and file where they are missing, takes the lock, and checks a file that is there.
    pub(crate) async fn take(path: &Path) -> Result<Self> {
        make_folder(path)?;
        let lock = lock(path)?;
        check(path).await?;
        // SQLite gives the files beside it the same mode.
        let opened = open_private(path).and_then(|file| file.metadata());
        let metadata =
            opened.map_err(|cause| file_error(format!("cannot open the database {}", path.display()), cause))?;
        Ok(Self { path: path.to_owned(), identity: identity(&metadata), _lock: lock })
    }

    /// Refuses to go on with a file that was removed or replaced: what is written to it now, the next process will not find.
    pub(crate) fn still_there(&self) -> Result<()> {
        match fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) == self.identity => Ok(()),
            _ => Err(StoreError::Refused(format!(
                "the database {} was removed or replaced while it was in use: put it back, or restart kubeop to go on with what is there now",
                self.path.display()
            ))),
        }
    }
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> Identity {
    (0, 0)
}

fn file_error(what: String, cause: std::io::Error) -> StoreError {
    StoreError::File { what, cause }
}

fn make_folder(database: &Path) -> Result<()> {
    let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|cause| file_error(format!("cannot make the folder {}", folder.display()), cause))
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// Takes `<database>.lock` for as long as the file stays open. SQLite itself would let two processes write in turn, each with its own
/// idea of who serves which cluster.
fn lock(database: &Path) -> Result<File> {
    let path = beside(database, ".lock");
    let fail = |cause| file_error(format!("cannot lock {}", path.display()), cause);
    let file = open_private(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Refused(format!(
            "the database {} is in use by another kubeop process: stop that one, or use PostgreSQL to run several",
            database.display()
        ))),
        Err(TryLockError::Error(cause)) => Err(fail(cause)),
    }
}

fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Reads the whole file, through a connection that cannot write.
async fn check(path: &Path) -> Result<()> {
    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let closed = size(&beside(path, "-wal")) == 0;
    if size(path) == 0 || (closed && size(path) > ALWAYS_CHECKED) {
        return Ok(());
    }
    let damaged = |found: &str| {
        let path = path.display();
        StoreError::Refused(format!(
            "the database {path} is damaged ({found}); nothing was written to it: put a backup in its place, or save what can be read with `sqlite3 {path} .recover`"
        ))
    };
    match findings(path).await {
        Ok(None) => Ok(()),
        Ok(Some(found)) => Err(damaged(&found)),
        Err(error) => {
            // The low byte is the primary code: CORRUPT, NOTADB.
            let code = error.as_database_error().and_then(|from| from.code()?.parse::<i64>().ok()).unwrap_or(0);
            if matches!(code & 0xff, 11 | 26) { Err(damaged(&error.to_string())) } else { Err(error.into()) }
        }
    }
}

/// The first thing that is wrong. Indexes are not compared with their tables, which takes ten times as long.
async fn findings(path: &Path) -> sqlx::Result<Option<String>> {
    let mut conn = SqliteConnectOptions::new().filename(path).read_only(true).connect().await?;
    let found = async {
        let q = sql!(sqlite: "PRAGMA quick_check(1)");
        let structure: String = sqlx::query_scalar(q).fetch_one(&mut conn).await?;
        if structure != "ok" {
            return Ok(Some(structure));
        }
        let q = sql!(sqlite: "SELECT \"table\" AS child FROM pragma_foreign_key_check LIMIT 1");
        let dangling: Option<String> = sqlx::query_scalar(q).fetch_optional(&mut conn).await?;
        Ok(dangling.map(|table| format!("a row of {table} refers to one that is not there")))
    }
    .await;
    conn.close().await?;
    found
}
