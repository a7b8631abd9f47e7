//! Where calls come in: the routes, the sockets they are served at, and how streams end when shutdown has no patience left.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::{Ground, StartError, stores::Stores};
use crate::{
    gateway::Gateway,
    http::{self, Phase, Server, Shutdown, Surface, Tls},
    quotas::Stored,
    telemetry::ContentLog,
    types::Tasks,
};

/// What the routes may reach.
pub(super) fn surface(
    gateway: &Arc<Gateway>,
    stores: &Stores,
    stored_quotas: Stored,
    content: &ContentLog,
    settings: &http::settings::Settings,
    shutdown: &Shutdown,
) -> Arc<Surface> {
    Arc::new(Surface {
        gateway: gateway.clone(),
        keys: stores.keys.clone(),
        stored_quotas,
        db: stores.db.clone(),
        metrics: gateway.metrics.clone(),
        content: content.clone(),
        clock: gateway.clock.clone(),
        in_flight: Arc::new(Semaphore::new(settings.max_in_flight.min(Semaphore::MAX_PERMITS))),
        settings: settings.clone(),
        shutdown: shutdown.clone(),
    })
}

/// Serves calls at `listen`, and the admin API there as well, unless it has an address of its own.
pub(super) async fn open(
    ground: &Ground,
    surface: Arc<Surface>,
    serving: &Tasks,
) -> Result<(SocketAddr, Option<SocketAddr>), StartError> {
    let Ground { settings, metrics, clock, .. } = ground;
    let server = Server {
        settings: settings.server.clone(),
        clock: clock.clone(),
        tasks: serving.clone(),
        metrics: metrics.clone(),
        shutdown: surface.shutdown.clone(),
        tls: settings.tls.as_ref().map(Tls::load).transpose()?,
    };
    let (listener, address) = listen(settings.listen, "`listen` in the configuration or `--listen`").await?;
    let (admin_listener, admin_address) = match settings.admin.listen {
        Some(address) => listen(address, "`admin.listen`").await.map(|(socket, at)| (Some(socket), Some(at)))?,
        None => (None, None),
    };
    match admin_listener {
        Some(admin_listener) => {
            serving.spawn(server.clone().serve(admin_listener, http::router(surface.clone(), http::Side::Admin)));
            serving.spawn(server.serve(listener, http::router(surface, http::Side::Calls)));
        }
        None => serving.spawn(server.serve(listener, http::router(surface, http::Side::Both))),
    }
    Ok((address, admin_address))
}

/// A socket at `address`, and where it really is. `setting` is named when there can be none.
pub(super) async fn listen(
    address: SocketAddr,
    setting: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |cause| StartError::Listen { address, setting, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// When the patience of shutdown is over, streams still open end with an error event. A gateway that has nothing in
/// flight stops without ever getting there.
pub(super) async fn cut_at_the_end(shutdown: Shutdown, cut: CancellationToken, stop: CancellationToken) {
    tokio::select! {
        () = shutdown.reached(Phase::Cut) => cut.cancel(),
        () = stop.cancelled() => {}
    }
}
