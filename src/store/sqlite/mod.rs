//! Opens the SQLite database: its directory and file for this user alone, write-ahead logging, migrations.

mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    migrate::{Migrate, MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::fs::{DirBuilder, OpenOptions};

pub use self::writer::Writer;
use super::{
    StoreError,
    schema::{self, Found, Step},
};
use crate::types::Clock;

/// The name of the database file in the data directory.
pub(super) const FILE: &str = "switchboard.db";

/// Each connection is a thread. Lookups of keys are few (they are cached), and one more waits for changes.
const CONNECTIONS: u32 = 5;

/// How long a writer waits for another process's write, and a query for a free connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The size of a page of a new file, in bytes. Four times the usual one: rows of calls are long and come in order, and each
/// page that is written is two system calls and a checksum. A file that is there keeps its own.
const PAGE: u32 = 16_384;

/// How many pages gather in the write-ahead log before they are brought into the file: 8 MiB.
const CHECKPOINT: &str = "512";

/// What a long read made the write-ahead log grow to is given back down to here, in bytes.
const LOG_LIMIT: &str = "67108864";

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

pub(super) async fn open(data_dir: &Path) -> Result<(SqlitePool, Writer), StoreError> {
    let path = data_dir.join(FILE);
    let (pool, file) = open_file(data_dir, &path).await?;
    apply_missing(&pool, &path).await?;
    Ok((pool, Writer::new(file)))
}

/// As [`open`], then says what was done and closes the database again.
pub(super) async fn migrate(data_dir: &Path) -> Result<Vec<Step>, StoreError> {
    let path = data_dir.join(FILE);
    let (pool, _) = open_file(data_dir, &path).await?;
    let applied = apply_missing(&pool, &path).await;
    pool.close().await;
    applied
}

/// The migrations that are still to be applied. Makes no file.
pub(super) async fn pending(data_dir: &Path) -> Result<Vec<Step>, StoreError> {
    let path = data_dir.join(FILE);
    let found = match path.exists() {
        false => Found::default(),
        true => {
            let options = SqliteConnectOptions::new().filename(&path).busy_timeout(PATIENCE);
            let opened = SqliteConnection::connect_with(&options).await;
            let mut connection = opened.map_err(|source| StoreError::Open { path: path.clone(), source })?;
            let found = find(&mut connection).await.map_err(|error| in_file(&path, error))?;
            connection.close().await?;
            found
        }
    };
    Ok(schema::steps(&schema::pending(&found, &MIGRATIONS, &path.display().to_string())?))
}

async fn open_file(data_dir: &Path, path: &Path) -> Result<(SqlitePool, Arc<TheFile>), StoreError> {
    make_private(data_dir, path)
        .await
        .map_err(|source| StoreError::Directory { path: data_dir.to_path_buf(), source })?;
    // With a write-ahead log readers never wait for a writer. FULL: a revocation that was reported as done must
    // survive a power cut.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .page_size(PAGE)
        .journal_mode(SqliteJournalMode::Wal)
        .pragma("wal_autocheckpoint", CHECKPOINT)
        .pragma("journal_size_limit", LOG_LIMIT)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE);
    let file = Arc::new(TheFile::new(path.to_owned()));
    let pool = connect(options, &file).await;
    Ok((pool.map_err(|source| StoreError::Open { path: path.to_path_buf(), source })?, file))
}

/// Opens the pool. Turning a fresh database over to write-ahead logging takes a lock that SQLite does not wait for,
/// whatever its time-out: of processes that start at once, all but one have to ask again.
async fn connect(options: SqliteConnectOptions, file: &Arc<TheFile>) -> Result<SqlitePool, sqlx::Error> {
    const PAUSE: Duration = Duration::from_millis(20);
    let clock = Clock::Real;
    let deadline = clock.now() + PATIENCE;
    loop {
        let file = file.clone();
        let opened = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            // A file does not hang up: asking each time whether it is still there would double the cost of a lookup.
            .test_before_acquire(false)
            .before_acquire(move |_, connection| {
                let is_of_the_file = file.is_of_it(connection.age);
                Box::pin(async move { Ok(is_of_the_file) })
            })
            .connect_with(options.clone())
            .await;
        match opened {
            Err(error) if is_busy(&error) && clock.now() < deadline => clock.sleep(PAUSE).await,
            opened => return opened,
        }
    }
}

/// Tells whether connections are to the file that is at the path now. SQLite goes on writing to a file that somebody
/// removed or replaced, and nobody ever reads that: such a connection is closed, and opening the next one says what is
/// wrong, or finds the new file.
#[derive(Debug)]
struct TheFile {
    path: PathBuf,
    /// Which file was found there last, and since when it is that one.
    seen: Mutex<(Option<FileId>, Instant)>,
}

/// Device and inode.
type FileId = (u64, u64);

impl TheFile {
    fn new(path: PathBuf) -> Self {
        let seen = (id_of(&path), Clock::Real.now());
        Self { path, seen: Mutex::new(seen) }
    }

    /// Whether a connection that was opened so long ago is to the file that is there now. It is a look at a directory,
    /// about a microsecond.
    fn is_of_it(&self, age: Duration) -> bool {
        let (there, now) = (id_of(&self.path), Clock::Real.now());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != there {
            *seen = (there, now);
        }
        there.is_some() && age <= now.saturating_duration_since(seen.1)
    }
}

#[cfg(unix)]
fn id_of(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn id_of(path: &Path) -> Option<FileId> {
    path.exists().then_some((0, 0))
}

/// `SQLITE_BUSY`, the low byte of its extended codes as well.
fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: i32 = 5;
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == BUSY)
}

/// Makes the directory (mode 0700) and an empty file (mode 0600) where they are missing. SQLite gives its log files
/// the mode of the database file.
async fn make_private(data_dir: &Path, path: &Path) -> io::Result<()> {
    let mut directory = DirBuilder::new();
    directory.recursive(true);
    let mut file = OpenOptions::new();
    file.create(true).append(true);
    #[cfg(unix)]
    {
        directory.mode(0o700);
        file.mode(0o600);
    }
    directory.create(data_dir).await?;
    file.open(path).await?;
    Ok(())
}

/// Two processes may start at once on a fresh directory. Holding the write lock from the first look at the tables to
/// the commit makes the second one find the work done.
async fn apply_missing(pool: &SqlitePool, path: &Path) -> Result<Vec<Step>, StoreError> {
    let wrong = |error| in_file(path, error);
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin_with("begin immediate").await.map_err(|error| wrong(error.into()))?;
    let found = find(&mut transaction).await.map_err(wrong)?;
    let missing = schema::pending(&found, &MIGRATIONS, &path.display().to_string())?;
    schema::apply(&mut *transaction, &missing).await.map_err(wrong)?;
    transaction.commit().await.map_err(|error| wrong(error.into()))?;
    Ok(schema::steps(&missing))
}

/// What the database says of its tables. Changes nothing.
async fn find(connection: &mut SqliteConnection) -> Result<Found, MigrateError> {
    const EXISTS: &str = "select count(*) from sqlite_master where type = 'table' and name = $1";
    let tables: i64 = sqlx::query_scalar(EXISTS).bind(schema::TABLE).fetch_one(&mut *connection).await?;
    if tables == 0 {
        return Ok(Found::default());
    }
    let applied = connection.list_applied_migrations(schema::TABLE).await?;
    let has_floor = applied.iter().any(|one| one.version == schema::FLOOR_SINCE);
    let floor = match has_floor {
        true => sqlx::query_scalar("select version from schema_floor").fetch_one(&mut *connection).await?,
        false => 0,
    };
    Ok(Found { applied, floor })
}

fn in_file(path: &Path, source: MigrateError) -> StoreError {
    StoreError::Migrate { at: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::{super::Db, *};

    #[cfg(unix)]
    #[tokio::test]
    async fn the_directory_and_its_files_are_for_this_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let db = Db::open(&dir, None).await.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        let files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.len() > 1, "the write-ahead log is beside the database");
        for file in files {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        db.close().await;
    }

    #[tokio::test]
    async fn processes_that_start_at_once_on_a_fresh_directory_all_open_it() {
        let parent = tempfile::tempdir().unwrap();
        for round in 0..5 {
            let dir = parent.path().join(round.to_string());
            let opened = futures_util::future::join_all((0..6).map(|_| Db::open(&dir, None))).await;
            for db in opened {
                db.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_is_removed_is_missed_and_one_in_its_place_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), None).await.unwrap();
        let Db::Sqlite(pool, writer) = &db else { unreachable!() };
        let write = |version: i64| sqlx::query("update changes set version = $1 where topic = 'keys'").bind(version);
        let write_own = |version: i64| {
            writer.run(move |connection| {
                connection.execute("update changes set version = ?1 where topic = 'quotas'", [version])
            })
        };
        write(7).execute(pool).await.unwrap();
        assert_eq!(write_own(7).await.unwrap(), 1);
        let (file, aside) = (dir.path().join(FILE), dir.path().join("aside"));
        let sidecars = [dir.path().join(format!("{FILE}-wal")), dir.path().join(format!("{FILE}-shm"))];
        std::fs::rename(&file, &aside).unwrap();
        sidecars.iter().for_each(|sidecar| std::fs::remove_file(sidecar).unwrap());
        write(8).execute(pool).await.unwrap_err();
        write_own(8).await.unwrap_err();
        assert!(!file.exists(), "no file is made");

        let other = Db::open(dir.path(), None).await.unwrap();
        other.close().await;
        write(9).execute(pool).await.unwrap();
        assert_eq!(write_own(10).await.unwrap(), 1);
        let told: i64 =
            sqlx::query_scalar("select version from changes where topic = 'keys'").fetch_one(pool).await.unwrap();
        assert_eq!(told, 9);
        db.close().await;
        write_own(11).await.unwrap_err();
        let again = Db::open(dir.path(), None).await.unwrap();
        let Db::Sqlite(pool, _) = &again else { unreachable!() };
        let told: Vec<(i64,)> =
            sqlx::query_as("select version from changes where topic in ('keys', 'quotas') order by topic")
                .fetch_all(pool)
                .await
                .unwrap();
        assert_eq!(told, [(9,), (10,)], "it was written where the next start reads");
    }

    #[tokio::test]
    async fn a_database_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), None).await.unwrap();
        let Db::Sqlite(pool, _) = &db else { unreachable!() };
        let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                     values (9999, 'later', true, x'00', 0)";
        sqlx::query(newer).execute(pool).await.unwrap();
        // It only added something: the version before goes on beside it.
        Db::open(dir.path(), None).await.unwrap().close().await;

        sqlx::query("update schema_floor set version = 9999").execute(pool).await.unwrap();
        db.close().await;
        for error in [Db::open(dir.path(), None).await.unwrap_err(), Db::pending(dir.path(), None).await.unwrap_err()] {
            assert!(matches!(error, StoreError::NewerSchema { needed: 9999, .. }), "{error:?}");
            assert!(error.to_string().contains("newer version"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_directory_or_file_that_cannot_be_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "not a directory").unwrap();
        let error = Db::open(&file, None).await.unwrap_err();
        assert!(matches!(error, StoreError::Directory { .. }), "{error:?}");
        assert!(error.to_string().contains("data_dir"), "{error}");

        let dir = parent.path().join("dir");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join(FILE), "this is not a database, but a text of some length").unwrap();
        let error = Db::open(&dir, None).await.unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
    }
}
