//! Whether the tables are those this gateway was built for.
//!
//! Migrations only add: what the version before needs stays, so that replicas of both can run side by side while one
//! replaces the other. So a database with migrations that are unknown here is in order, unless its `schema_floor` says
//! that a gateway must know more than this one does.

use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, Migrator};

use super::StoreError;

/// The table that holds which migrations were applied.
pub(super) const TABLE: &str = "_sqlx_migrations";

/// The migration that made `schema_floor`.
pub(super) const FLOOR_SINCE: i64 = 2;

/// What a database says of its tables.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of their numbers; empty for a fresh database.
    pub(super) applied: Vec<AppliedMigration>,
    /// The migration that a gateway must know to work here.
    pub(super) floor: i64,
}

/// A change to the tables: its number and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub number: i64,
    pub about: String,
}

/// The migrations of `known` that `found` lacks, in order.
///
/// # Errors
/// When the database is beyond this gateway, or one of its migrations is not the one known here. `at` names it.
pub(super) fn pending<'a>(found: &Found, known: &'a Migrator, at: &str) -> Result<Vec<&'a Migration>, StoreError> {
    let newest = known.iter().map(|migration| migration.version).max().unwrap_or(0);
    if found.floor > newest {
        return Err(StoreError::NewerSchema { at: at.to_owned(), needed: found.floor, known: newest });
    }
    let mut pending = Vec::new();
    for migration in known.iter() {
        match found.applied.iter().find(|applied| applied.version == migration.version) {
            None => pending.push(migration),
            Some(applied) if applied.checksum == migration.checksum => {}
            Some(_) => {
                let source = MigrateError::VersionMismatch(migration.version);
                return Err(StoreError::Migrate { at: at.to_owned(), source });
            }
        }
    }
    Ok(pending)
}

/// Applies `migrations`. The caller has a transaction open, so that all of them hold or none.
pub(super) async fn apply<C: Migrate>(connection: &mut C, migrations: &[&Migration]) -> Result<(), MigrateError> {
    connection.ensure_migrations_table(TABLE).await?;
    for migration in migrations {
        connection.apply(TABLE, migration).await?;
    }
    Ok(())
}

/// What is told of migrations.
pub(super) fn steps(migrations: &[&Migration]) -> Vec<Step> {
    migrations.iter().map(|one| Step { number: one.version, about: one.description.to_string() }).collect()
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04} {}", self.number, self.about)
    }
}
