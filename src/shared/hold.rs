//! A hold: what one call has taken. It ends once, and ending it neither waits nor fails.

use std::sync::Arc;

use super::{
    CounterId, Level, Refusal, Take,
    memory::{Held, Memory},
};

/// What one call has taken. Dropped, it gives everything back.
#[derive(Debug)]
pub struct Hold {
    inner: Inner,
    levels: Vec<(CounterId, Level)>,
}

#[derive(Debug)]
enum Inner {
    Memory { memory: Arc<Memory>, held: Vec<Held> },
}

impl Hold {
    pub(super) fn in_memory(memory: Arc<Memory>) -> Self {
        Self { inner: Inner::Memory { memory, held: Vec::new() }, levels: Vec::new() }
    }

    /// Takes all of `takes` on top of what is held already, or nothing at all. A counter that is held already is held
    /// more.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing has changed.
    pub async fn take(&mut self, takes: &[Take]) -> Result<(), Refusal> {
        match &mut self.inner {
            Inner::Memory { memory, held } => {
                memory.ready(takes).await?;
                memory.take(held, &mut self.levels, takes)
            }
        }
    }

    /// How full each counter was after the last take that touched it.
    pub fn levels(&self) -> &[(CounterId, Level)] {
        &self.levels
    }

    /// How much of `counter` is held.
    pub fn held(&self, counter: CounterId) -> u64 {
        match &self.inner {
            Inner::Memory { held, .. } => held.iter().find(|held| held.id == counter).map_or(0, Held::amount),
        }
    }

    /// Gives these back whole, now: slots at the end of a call, a target that was left.
    pub fn release(&mut self, counters: &[CounterId]) {
        match &mut self.inner {
            Inner::Memory { memory, held } => memory.end(held.extract_if(.., |held| counters.contains(&held.id)), &[]),
        }
    }

    /// The end: what was really consumed of each counter. One that is held and not named is given back whole, one that is
    /// named and not held is left alone. It may be more than was held.
    pub fn settle(mut self, actual: &[(CounterId, u64)]) {
        self.end(actual);
    }

    fn end(&mut self, actual: &[(CounterId, u64)]) {
        match &mut self.inner {
            Inner::Memory { memory, held } => {
                if !held.is_empty() {
                    memory.end(held.drain(..), actual);
                }
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.end(&[]);
    }
}
