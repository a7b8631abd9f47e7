//! Accepting connections and serving HTTP/1.1 and HTTP/2 (prior knowledge) on them.

use std::{future::Future, sync::Arc, time::Duration};

use hyper::{rt::Executor, service::service_fn};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::{
    Mock,
    fate::{Fate, Io},
    respond::{Connection, respond},
};
use crate::types::Tasks;

/// How long to wait when the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Lets the HTTP library spawn: it does for each stream of an HTTP/2 connection.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F> Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// Accepts connections until `stop`, which also drops those that are open: a mock is not drained.
pub(super) async fn serve(mock: &Mock, listener: TcpListener, stop: CancellationToken, tasks: &Tasks) {
    let mut builder = Builder::new(Spawner(tasks.clone()));
    builder.http2().max_concurrent_streams(256);
    let builder = Arc::new(builder);
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            mock.0.clock.sleep(ACCEPT_PAUSE).await;
            continue;
        };
        number += 1;
        let connection = converse(mock.clone(), builder.clone(), socket, number);
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection => {}
            }
        });
    }
}

/// Serves one connection to its end.
async fn converse(mock: Mock, builder: Arc<Builder<Spawner>>, socket: TcpStream, number: u64) {
    // Without it, a chunk waits up to 40 ms for the acknowledgement of the one before.
    let _ = socket.set_nodelay(true);
    let fate = Arc::new(Fate::default());
    let io = Io::new(socket, fate.clone());
    let connection = Connection { number, fate };
    let service = service_fn(move |request| respond(mock.clone(), connection.clone(), request));
    // It ends with an error whenever a client leaves or a script breaks the connection; both are recorded elsewhere.
    let _: Result<(), _> = builder.serve_connection(io, service).await;
}
