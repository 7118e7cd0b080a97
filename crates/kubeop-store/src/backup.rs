//! A copy of a SQLite file beside the process that holds it.
//!
//! Invariant: the copy is one state of the database, whole and on disk, or there is none; the file copied from is only read, and nothing is replaced.

use crate::store::sqlite_path;
use crate::{Result, StoreError};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Copies the SQLite file of `url` into a new file, readable by its owner alone.
///
/// # Errors
/// A sentence when the database is no SQLite file; `File` when the new one is there already or cannot be made; `Unavailable` when the database cannot
/// be read.
pub async fn backup(url: &str, into: &Path) -> Result<()> {
    let Some(path) = sqlite_path(url) else {
        return Err(StoreError::Url(
            "the database is not a SQLite file: pg_dump makes backups of PostgreSQL".to_owned(),
        ));
    };
    let mut source = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(Duration::from_secs(30))
        .pragma("trusted_schema", "off")
        .connect()
        .await?;
    // SQLite fills an empty file and leaves its mode.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(into);
    made.map_err(|cause| file("make", into, cause))?;
    let copied = copy(&mut source, into).await;
    if copied.is_err() {
        // Half a copy is none; that it stays is the lesser trouble.
        let _ = fs::remove_file(into);
    }
    copied
}

async fn copy(source: &mut sqlx::SqliteConnection, into: &Path) -> Result<()> {
    let Some(name) = into.to_str() else {
        return Err(file("write", into, io::Error::other("its name is not UTF-8")));
    };
    let q = crate::sql!(sqlite: "VACUUM INTO $1");
    sqlx::query(q).bind(name).execute(&mut *source).await?;
    // SQLite leaves it to the system when the copy reaches the disk.
    File::open(into).and_then(|copy| copy.sync_all()).map_err(|cause| file("write", into, cause))
}

fn file(what: &str, path: &Path, cause: io::Error) -> StoreError {
    StoreError::File { what: format!("failed to {what} {}", path.display()), cause }
}
