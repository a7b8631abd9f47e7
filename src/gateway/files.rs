//! What a call names by URL and has to be sent as bytes. It is fetched once, whatever becomes of the attempts, and goes
//! with the call.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use futures_util::StreamExt;

use crate::{
    upstream::{Fetcher, File, Room},
    wire::conversation::fetch::{Fetched, Wanted},
};

/// Files of one call that are fetched at once.
const AT_ONCE: usize = 4;

/// Bytes up to this are written in base64 where they are; more is no work for a thread that serves calls.
const SMALL: usize = 128 * 1024;

/// The files of one call: what came of each that was fetched.
#[derive(Debug, Default)]
pub(super) struct Files {
    kept: Mutex<Vec<Kept>>,
    /// What the files may still have together.
    room: OnceLock<Room>,
}

/// What came of one: itself, or why not.
type Kept = (Wanted, Result<Arc<Fetched>, String>);

/// Why the files of a call are not there.
#[derive(Debug)]
pub(super) enum Missing {
    /// These have not been fetched yet.
    Unfetched(Vec<Wanted>),
    /// One cannot be had.
    Refused { path: String, why: String },
}

impl Files {
    /// What was fetched for these.
    ///
    /// # Errors
    /// [`Missing`] unless all of it is there.
    pub(super) fn of(&self, wanted: &[Wanted]) -> Result<Vec<Arc<Fetched>>, Missing> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut found, mut unfetched) = (Vec::with_capacity(wanted.len()), Vec::new());
        for wanted in wanted {
            match kept.iter().find(|(kept, _)| kept.what == wanted.what && kept.url == wanted.url) {
                Some((_, Ok(fetched))) => found.push(fetched.clone()),
                Some((_, Err(why))) => return Err(Missing::Refused { path: wanted.path.clone(), why: why.clone() }),
                None => unfetched.push(wanted.clone()),
            }
        }
        if unfetched.is_empty() { Ok(found) } else { Err(Missing::Unfetched(unfetched)) }
    }

    /// Fetches these, until `total` at the latest. What comes of it is found by [`Files::of`].
    pub(super) async fn fetch(&self, fetcher: &Fetcher, wanted: Vec<Wanted>, total: Instant) {
        let deadline = fetcher.deadline().min(total);
        let room = self.room.get_or_init(|| fetcher.room());
        let each = wanted.into_iter().map(|wanted| one(fetcher, wanted, room, deadline));
        let mut coming = futures_util::stream::iter(each).buffer_unordered(AT_ONCE);
        while let Some(fetched) = coming.next().await {
            if let (wanted, Err(why)) = &fetched {
                tracing::debug!(place = wanted.path, "a file was not fetched: {why}");
            }
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(fetched);
        }
    }
}

async fn one(fetcher: &Fetcher, wanted: Wanted, room: &Room, deadline: Instant) -> Kept {
    let fetched = match fetcher.get(&wanted.url, room, deadline).await {
        Ok(file) => filled(&wanted, file).await,
        Err(error) => Err(error.to_string()),
    };
    (wanted, fetched.map(Arc::new))
}

async fn filled(wanted: &Wanted, file: File) -> Result<Fetched, String> {
    let said = |why: &str| format!("it {why}");
    if file.bytes.len() <= SMALL {
        return wanted.filled(&file.media_type, &file.bytes).map_err(said);
    }
    let wanted = wanted.clone();
    let work = tokio::task::spawn_blocking(move || wanted.filled(&file.media_type, &file.bytes));
    work.await.unwrap_or(Err("could not be read")).map_err(said)
}
