//! What a running server answers: is it alive, is it ready, how is it doing.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::SyncSettings;
use crate::control::status::status;
use crate::model::{ErrorCode, Stage, SyncError};
use crate::store::Store;
use crate::telemetry;

/// What the handlers need.
#[derive(Clone)]
pub struct Served {
    /// Our state.
    pub store: Store,
    /// Operator's knobs.
    pub settings: SyncSettings,
    /// Renders the metrics.
    pub metrics: Option<PrometheusHandle>,
}

/// Binds the address; kept apart from [`serve`] so that a taken port is told before anything starts.
pub async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, SyncError> {
    TcpListener::bind(address).await.map_err(|error| {
        SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Configuration, format!("cannot listen on {address}"))
            .external(error)
            .hint("Another program uses the address: set http.listen to a free one.")
    })
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, served: Served, stop: CancellationToken) -> Result<(), SyncError> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(served);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(|error| SyncError::internal(Stage::Configuration, "the HTTP server failed").external(error))
}

/// Ready: our state can be read.
async fn ready(State(served): State<Served>) -> impl IntoResponse {
    match served.store.connection().await {
        Ok(_) => (StatusCode::OK, "ready\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

async fn render(State(served): State<Served>) -> impl IntoResponse {
    // Freshness grows by itself, so it is worked out when somebody asks.
    if let Ok(status) = status(&served.store, &served.settings, true, jiff::Timestamp::now()).await {
        for view in &status.syncs {
            if let Some(seconds) = view.freshness_seconds {
                metrics::gauge!(telemetry::FRESHNESS_SECONDS, "sync" => view.sync.name()).set(seconds as f64);
            }
        }
    }
    let text = served.metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
