//! What can go wrong with the database, and the one place where it becomes the domain's error.
//!
//! Invariant: SQL, names of tables and text of the database reach the log only; a caller sees sentences written here.

use kubeop_core::{Error, ErrorKind};
use sqlx::migrate::MigrateError;

/// What every function of the store returns.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A failure of the store. `?` turns it into [`kubeop_core::Error`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database URL cannot be used; the sentence says why.
    #[error("{0}")]
    Url(String),
    /// The store must not be used as it is: another process holds it, or its schema is of another version; the sentence says which.
    #[error("{0}")]
    Refused(String),
    /// The database does not answer, or asks to try again (pool or lock time-out, deadlock, restart, disk full).
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// The database fell silent, or its connection broke, between being asked to commit and telling that it did: it may have.
    #[error("whether the change was committed is not known")]
    InDoubt(#[source] sqlx::Error),
    /// A uniqueness or reference rule of the schema held against a write that nothing foresaw (a race between callers).
    #[error("conflicts with another change")]
    Conflict(#[source] sqlx::Error),
    /// Anything else the database reports: a defect.
    #[error("database error")]
    Database(#[source] sqlx::Error),
    /// A statement the database refuses to prepare.
    #[error("statement at {at}")]
    Statement {
        /// Its place in the source.
        at: &'static str,
        /// What the database says.
        #[source]
        cause: sqlx::Error,
    },
    /// A migration failed.
    #[error("migration failed")]
    Migrate(#[source] MigrateError),
    /// A file beside the database (its folder, its lock) could not be made.
    #[error("{what}")]
    File {
        /// What was tried, with the path.
        what: String,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// A defect of this crate or of its caller.
    #[error("{0}")]
    Defect(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(error),
            sqlx::Error::Database(from_database) => {
                if from_database.is_unique_violation() || from_database.is_foreign_key_violation() {
                    return Self::Conflict(error);
                }
                let code = from_database.code().unwrap_or_default();
                if try_again(&code) { Self::Unavailable(error) } else { Self::Database(error) }
            }
            _ => Self::Database(error),
        }
    }
}

impl StoreError {
    /// What the failure of a COMMIT means. Only where the database itself says that it did not happen, it did not.
    pub(crate) fn of_commit(error: sqlx::Error) -> Self {
        let told = match &error {
            sqlx::Error::Database(from_database) => {
                let code = from_database.code().unwrap_or_default();
                // A PostgreSQL that is being shut down, a broken connection, an SQLite that could not write: after the fact, perhaps.
                if code.len() == 5 {
                    !code.starts_with("57P") && !code.starts_with("08")
                } else {
                    code.parse::<i64>().is_ok_and(|number| number & 0xff != 10)
                }
            }
            _ => false,
        };
        if told { Self::from(error) } else { Self::InDoubt(error) }
    }
}

/// Whether a code of PostgreSQL (five characters, its manual's appendix A) or SQLite (a number, extended) says that the cause may pass.
fn try_again(code: &str) -> bool {
    if code.len() == 5 {
        // 08 connection, 53 out of resources, 57 operator intervention (also the statement time-out), 58 system error,
        // 25006 read-only after a failover, 28 access not (yet) granted, 3D000 database not (yet) there, 40 rolled back, 55P03 lock time-out.
        return matches!(code.get(..2), Some("08" | "28" | "40" | "53" | "57" | "58"))
            || matches!(code, "25006" | "25P03" | "3D000" | "55P03");
    }
    // The low byte is the primary code: BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN.
    code.parse::<i64>().is_ok_and(|number| matches!(number & 0xff, 5 | 6 | 8 | 10 | 13 | 14))
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Url(sentence) => Self::invalid(sentence),
            StoreError::Refused(sentence) => Self::unavailable(sentence),
            StoreError::Unavailable(cause) => Self::unavailable("the database is not available").caused_by(cause),
            StoreError::InDoubt(cause) => Self::unavailable(
                "the database is not available, and whether this change was made is not known: read it again, or send it again with its Idempotency-Key",
            )
            .caused_by(cause),
            StoreError::Conflict(cause) => {
                Self::conflict("this clashes with another change made at the same time: read it again and retry")
                    .caused_by(cause)
            }
            StoreError::File { what, cause } => Self::new(ErrorKind::Unavailable, what).caused_by(cause),
            other => Self::internal(other),
        }
    }
}

/// Whether an error is the database's, whatever it was turned into on its way.
pub fn is_of_database(error: &Error) -> bool {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source())
        .any(|cause| cause.is::<sqlx::Error>() || cause.is::<StoreError>())
}

/// What an insertion came to. A clash is no error: the transaction stays usable, so that the caller can name what is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "nothing was written if it is taken"]
pub enum Inserted {
    /// The row is there.
    Yes,
    /// Nothing was written: this is taken.
    Taken(Taken),
}

/// Which uniqueness rule an insertion met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Taken {
    /// Another row has the id.
    Id,
    /// Another one has the name.
    Name,
    /// Another cluster is the same API server (`kube-system` uid).
    ClusterUid,
    /// Another project holds the namespace.
    Namespace,
    /// Another app holds the host.
    Host,
    /// The meter has a price from that instant on already.
    Price,
}

impl Inserted {
    /// `Ok` when written, else the conflict `say` words.
    pub fn or_conflict(self, say: impl FnOnce(Taken) -> String) -> kubeop_core::Result<()> {
        match self {
            Self::Yes => Ok(()),
            Self::Taken(what) => Err(Error::conflict(say(what))),
        }
    }

    /// From a count of rows written by an `INSERT ... ON CONFLICT DO NOTHING` with one rule to meet.
    pub(crate) fn from_rows(rows: u64, rule: Taken) -> Self {
        if rows == 0 { Self::Taken(rule) } else { Self::Yes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_s_text_is_not_for_callers() {
        let error = Error::from(StoreError::Database(sqlx::Error::Protocol("SELECT secret".into())));
        assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, "internal error"));
        assert!(error.chain().contains("SELECT secret"));
        let error = Error::from(StoreError::from(sqlx::Error::PoolTimedOut));
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "the database is not available"));
    }

    #[test]
    fn what_the_database_did_is_told_from_the_rest() {
        for error in [StoreError::from(sqlx::Error::PoolTimedOut), StoreError::Database(sqlx::Error::RowNotFound)] {
            assert!(is_of_database(&Error::from(error)));
        }
        assert!(!is_of_database(&Error::unavailable("the API server does not answer in time")));
    }

    #[test]
    fn codes_that_may_pass() {
        for code in ["08006", "40001", "40P01", "53300", "55P03", "57014", "57P01", "25006", "5", "517", "13", "261"] {
            assert!(try_again(code), "{code}");
        }
        assert!(matches!(StoreError::of_commit(sqlx::Error::WorkerCrashed), StoreError::InDoubt(_)));
        for code in ["42P01", "22P05", "23505", "1", "19", "2067", "", "x"] {
            assert!(!try_again(code), "{code}");
        }
    }
}
