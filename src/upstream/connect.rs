//! Opening a connection within a deadline that covers TCP and TLS together.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use tower::Service;

use crate::types::Clock;

/// A connector whose every connection must be ready within `limit`.
#[derive(Clone, Debug)]
pub(super) struct Deadlined<C> {
    pub inner: C,
    pub clock: Clock,
    pub limit: Duration,
}

/// The deadline for opening a connection passed.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} ms", limit.as_millis())]
pub(super) struct ConnectTimedOut {
    limit: Duration,
}

type Boxed = Box<dyn std::error::Error + Send + Sync>;

impl<C> Service<Uri> for Deadlined<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<Boxed>,
{
    type Response = C::Response;
    type Error = Boxed;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, Boxed>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Boxed>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (clock, limit) = (self.clock.clone(), self.limit);
        let connecting = self.inner.call(uri);
        Box::pin(async move {
            match clock.timeout_at(clock.now() + limit, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(ConnectTimedOut { limit }.into()),
            }
        })
    }
}
