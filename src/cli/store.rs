//! Which store a command works on.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use clap::Args;

use super::{ConfigFile, Failed};
use crate::{
    auth::{
        Declared, Keys, Settings,
        settings::{KeySettings, ProjectSettings},
    },
    config::{self, Environment, Flags},
    quotas::settings::QuotaSettings,
    store::{DatabaseSettings, Db, StoreError},
    types::{Clock, Secret},
};

/// The store of the configuration, unless the command line says otherwise.
#[derive(Clone, Debug, Args)]
pub struct StoreArgs {
    #[command(flatten)]
    config: ConfigFile,

    #[command(flatten)]
    place: PlaceArgs,
}

/// What the command line may say about the store.
#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// Where state is kept, in place of the configuration's `data_dir`.
    #[arg(long, global = true, value_name = "DIR", env = "SWITCHBOARD_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// The URL of a PostgreSQL database, in place of the configuration's `database`. It holds a password: better in the
    /// environment than here, where other users of the machine see it.
    #[arg(long, global = true, value_name = "URL", env = "SWITCHBOARD_DATABASE", hide_env_values = true)]
    #[arg(value_parser = |url: &str| Ok::<_, std::convert::Infallible>(Secret::new(url)))]
    database: Option<Secret>,
}

/// Where the database is: a server, else a file in the data directory.
#[derive(Clone, Debug)]
pub struct Place {
    pub data_dir: PathBuf,
    pub database: Option<DatabaseSettings>,
    /// Keys, projects and quotas that the file declares: they are not the store's to change.
    pub declared: Arc<InFile>,
}

/// What the file declares of what else is in the store.
#[derive(Debug, Default)]
pub struct InFile {
    keys: Vec<KeySettings>,
    projects: BTreeMap<String, ProjectSettings>,
    quotas: Vec<QuotaSettings>,
}

impl StoreArgs {
    /// # Errors
    /// When the configuration cannot be used.
    pub(super) fn place(self) -> Result<Place, Failed> {
        let loaded = config::load(self.config.config.as_deref(), &Environment::process());
        let mut settings = loaded.map_err(Failed::misconfigured)?.settings;
        self.place.flags().apply(&mut settings);
        let declared = Arc::new(InFile { keys: settings.keys, projects: settings.projects, quotas: settings.quotas });
        Ok(Place { data_dir: settings.data_dir, database: settings.database, declared })
    }
}

impl PlaceArgs {
    pub(super) fn flags(self) -> Flags {
        // An empty variable is how compose files say "unset".
        let database = self.database.filter(|url| !url.expose().is_empty());
        Flags { data_dir: self.data_dir, database, ..Flags::default() }
    }
}

impl Place {
    /// A folder with a database in it, and no configuration.
    #[cfg(test)]
    pub(super) fn folder(data_dir: &std::path::Path) -> Self {
        Self { data_dir: data_dir.to_owned(), database: None, declared: Arc::default() }
    }

    /// The same, of a configuration that declares these quotas.
    #[cfg(test)]
    pub(super) fn with_quotas(self, quotas: Vec<QuotaSettings>) -> Self {
        Self { declared: Arc::new(InFile { quotas, ..InFile::default() }), ..self }
    }

    /// The keys of the store, with what the file declares. What is wrong with that is `switchboard check`'s to say; it is
    /// then not known here.
    pub(super) fn keys(&self, db: &Db, clock: &Clock) -> Keys {
        let keys = Keys::new(db.clone(), clock.clone(), &Settings::default());
        let InFile { keys: own, projects, quotas } = &*self.declared;
        if let Ok(declared) = Declared::new(own, projects) {
            keys.declare(declared.with_quotas(quotas));
        }
        keys
    }

    /// # Errors
    /// As [`Db::open`].
    pub async fn open(&self) -> Result<Db, StoreError> {
        Db::open(&self.data_dir, self.database.as_ref()).await
    }

    /// # Errors
    /// When there is no database to read: a wrong directory is not made.
    pub(super) fn expect_one(&self) -> anyhow::Result<()> {
        if !self.exists() {
            anyhow::bail!(
                "there is no database in {}; name the gateway's data directory with --data-dir, or its database with \
                 --database",
                self.data_dir.display()
            );
        }
        Ok(())
    }

    /// Whether there is a database, as far as can be told without asking a server.
    pub(super) fn exists(&self) -> bool {
        self.database.is_some() || Db::exists(&self.data_dir)
    }
}
