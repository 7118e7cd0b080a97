//! Schema migrations: one file a version, its column types and table options as tokens that are replaced per dialect.
//!
//! Invariant: an applied file never changes (sqlx checks the expanded text); what a token means never changes either.

use crate::{Result, StoreError};
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};

/// Version, name and text of every migration, in order.
const FILES: &[(i64, &str, &str)] = &[
    (1, "init", include_str!("../migrations/0001_init.sql")),
    (2, "invoices", include_str!("../migrations/0002_invoices.sql")),
    (3, "audit_idempotency", include_str!("../migrations/0003_audit_idempotency.sql")),
    (4, "keys", include_str!("../migrations/0004_keys.sql")),
    (5, "events", include_str!("../migrations/0005_events.sql")),
    (6, "reach", include_str!("../migrations/0006_reach.sql")),
    (7, "last_seen", include_str!("../migrations/0007_last_seen.sql")),
];

/// Token, PostgreSQL, SQLite.
const TOKENS: &[(&str, &str, &str)] = &[
    ("{{uuid}}", "uuid", "BLOB"),
    ("{{json}}", "jsonb", "TEXT"),
    ("{{bytes}}", "bytea", "BLOB"),
    ("{{decimal}}", "numeric", "TEXT"),
    ("{{bool}}", "boolean", "INTEGER"),
    ("{{ts}}", "timestamptz", "INTEGER"),
    ("{{i64}}", "bigint", "INTEGER"),
    // Numbers that rise and are never given twice.
    ("{{sequence_key}}", "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
    // The first instant of the month in which `created_at` lies.
    (
        "{{created_month}}",
        "date_trunc('month', created_at, 'UTC')",
        "CAST(strftime('%s', created_at / 1000000, 'unixepoch', 'start of month') AS INTEGER) * 1000000",
    ),
    ("{{table_opts}}", "", " STRICT"),
    ("{{table_opts_norowid}}", "", " STRICT, WITHOUT ROWID"),
];

/// Where sqlx keeps what was applied.
const TABLE: &str = "_sqlx_migrations";

/// The schema version this binary needs.
pub fn newest() -> i64 {
    FILES.iter().map(|(version, ..)| *version).max().unwrap_or(0)
}

/// How a database's schema relates to this binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Just what this binary needs.
    Current,
    /// Migrations are missing: run them first.
    Behind {
        /// The database's version; 0 when it is empty.
        found: i64,
        /// What this binary needs.
        needed: i64,
    },
    /// A newer binary migrated it: this one must not touch it.
    Ahead {
        /// The database's version.
        found: i64,
        /// What this binary needs.
        needed: i64,
    },
}

impl Schema {
    pub(crate) fn of(found: i64) -> Self {
        let needed = newest();
        match found.cmp(&needed) {
            std::cmp::Ordering::Equal => Self::Current,
            std::cmp::Ordering::Less => Self::Behind { found, needed },
            std::cmp::Ordering::Greater => Self::Ahead { found, needed },
        }
    }

    /// `Ok` when current, else the sentence that says what to do.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Current => Ok(()),
            Self::Behind { found, needed } => Err(StoreError::Refused(format!(
                "the database's schema is at version {found} and this kubeop needs {needed}: run `kubeop migrate`"
            ))),
            Self::Ahead { found, needed } => Err(StoreError::Refused(format!(
                "the database's schema is at version {found}, newer than the {needed} this kubeop knows: run the newer kubeop"
            ))),
        }
    }
}

fn migrator(pg: bool) -> Result<Migrator> {
    let mut migrations = Vec::with_capacity(FILES.len());
    for (version, name, text) in FILES {
        let sql = TOKENS.iter().fold((*text).to_owned(), |sql, (token, for_pg, for_sqlite)| {
            sql.replace(token, if pg { for_pg } else { for_sqlite })
        });
        if sql.contains("{{") {
            return Err(StoreError::Defect(format!("unknown token in migration {version}")));
        }
        migrations.push(Migration::new(
            *version,
            (*name).into(),
            MigrationType::Simple,
            sqlx::AssertSqlSafe(sql).into_sql_str(),
            false,
        ));
    }
    Ok(Migrator::with_migrations(migrations))
}

/// Tells one state of the migrations of a database kind from another: for naming a migrated database that tests copy.
///
/// # Errors
/// A defect in the migrations.
pub fn fingerprint(pg: bool) -> Result<String> {
    let mut mixed = 0_u64;
    for byte in migrator(pg)?.iter().flat_map(|migration| migration.checksum.iter()) {
        mixed = mixed.rotate_left(5) ^ u64::from(*byte);
        mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    Ok(format!("{mixed:016x}"))
}

/// Brings the schema up to this binary's version, on a connection of its own (an error leaves sqlx's advisory lock held until it closes).
pub(crate) async fn run<C: Migrate>(conn: &mut C, pg: bool) -> Result<()> {
    migrator(pg)?.run_direct(None, conn, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) if found > newest() => match Schema::of(found).check() {
            Err(refused) => refused,
            Ok(()) => StoreError::Migrate(error),
        },
        MigrateError::VersionMismatch(version) => StoreError::Refused(format!(
            "the database's schema version {version} was made by another build of kubeop than this one: run the kubeop that made it"
        )),
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => StoreError::from(cause),
        other => StoreError::Migrate(other),
    })
}

/// The highest version applied; the table of migrations must exist.
pub(crate) async fn applied<C: Migrate>(conn: &mut C) -> Result<i64> {
    let list = conn.list_applied_migrations(TABLE).await.map_err(StoreError::Migrate)?;
    Ok(list.iter().map(|migration| migration.version).max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_rise_and_every_token_is_known() {
        assert!(FILES.is_sorted_by(|(version, ..), (next, ..)| version < next));
        migrator(true).unwrap();
        migrator(false).unwrap();
    }

    #[test]
    fn every_table_is_strict() {
        for (version, _, text) in FILES {
            let tables = text.matches("CREATE TABLE").count();
            assert_eq!(tables, text.matches("){{table_opts").count(), "migration {version}");
        }
    }
}
