//! Where rows go.

use crate::store::{
    self, Db,
    ledger::{Calls, Written},
};

/// What takes the rows.
#[derive(Clone, Debug)]
pub enum Sink {
    Store(Db),
    /// A store that does what a test tells it to.
    #[cfg(test)]
    Scripted(std::sync::Arc<super::script::Script>),
}

impl Sink {
    /// Writes rows, those that are not there already. Those that the store does not want are in the answer.
    ///
    /// # Errors
    /// When the store cannot take anything now, in words. Some rows may have been written: write all of them again.
    pub(super) async fn write(&self, rows: &Calls) -> Result<Written, String> {
        match self {
            // Boxed: what a database's batch takes on the stack is not for every task that waits for it.
            Self::Store(db) => {
                Box::pin(store::ledger::write(db, rows.clone())).await.map_err(|error| error.to_string())
            }
            #[cfg(test)]
            Self::Scripted(script) => script.write(rows).await,
        }
    }
}
