//! The routes.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::config::Secret;
use crate::http::listener::{Bound, Bounded};
use crate::http::snapshot::Source;
use crate::http::{auth, metrics};

struct Shared {
    source: Arc<dyn Source>,
    password: Option<Secret>,
}

impl Bound {
    /// Answers requests until `end` is done and what is being answered has been.
    ///
    /// # Errors
    ///
    /// When the listener breaks.
    pub async fn serve(
        self,
        source: Arc<dyn Source>,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::new(Shared { source, password: self.password });
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics_page))
            .with_state(shared);
        axum::serve(Bounded::new(self.listener), router).with_graceful_shutdown(end).await
    }
}

async fn livez() -> Response {
    Json(json!({ "ok": true })).into_response()
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let readiness = shared.source.readiness();
    let (status, ready) = match readiness.is_ready() {
        true => (StatusCode::OK, true),
        false => (StatusCode::SERVICE_UNAVAILABLE, false),
    };
    (status, Json(json!({ "ready": ready, "needs": readiness.needs }))).into_response()
}

async fn metrics_page(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !auth::admits(shared.password.as_ref(), &headers) {
        let challenge = [(WWW_AUTHENTICATE, "Basic realm=\"assent\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "the password of http.password is needed\n")
            .into_response();
    }
    let text = metrics::encode(shared.source.snapshot());
    ([(CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::config::Http;
    use crate::http::{Need, Readiness, Snapshot, bind};

    struct Fake(AtomicBool);

    impl Source for Fake {
        fn snapshot(&self) -> Snapshot {
            Snapshot { outbox_depth: 42, ..Snapshot::default() }
        }
        fn readiness(&self) -> Readiness {
            let catalog = match self.0.load(Ordering::Relaxed) {
                true => Need::met("catalog"),
                false => Need::missing("catalog", "the disk is full: make room"),
            };
            Readiness { needs: vec![catalog, Need::away("nats", "not connected")] }
        }
    }

    async fn ask(addr: SocketAddr, path: &str, header: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn start(password: Option<&str>) -> (SocketAddr, Arc<Fake>) {
        let http = Http {
            listen: "127.0.0.1:0".parse().unwrap(),
            password: password.map(|text| Secret::new(text.to_owned())),
        };
        let bound = bind(&http).await.unwrap();
        let (addr, fake) = (bound.addr(), Arc::new(Fake(AtomicBool::new(true))));
        let source: Arc<dyn Source> = fake.clone();
        tokio::spawn(bound.serve(source, std::future::pending()));
        (addr, fake)
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing() {
        let (addr, fake) = start(None).await;
        assert!(ask(addr, "/livez", "").await.starts_with("HTTP/1.1 200"));
        let ready = ask(addr, "/readyz", "").await;
        assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"ready\":true"), "{ready}");
        fake.0.store(false, Ordering::Relaxed);
        let ready = ask(addr, "/readyz", "").await;
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(ready.contains("the disk is full: make room"), "{ready}");
        assert!(ask(addr, "/livez", "").await.starts_with("HTTP/1.1 200"));
        assert!(ask(addr, "/nothing", "").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn metrics_are_for_those_who_know_the_password() {
        let (addr, _) = start(Some("open sesame!")).await;
        let shut = ask(addr, "/metrics", "").await;
        assert!(shut.starts_with("HTTP/1.1 401") && !shut.contains("outbox"), "{shut}");
        let open = ask(addr, "/metrics", "Authorization: Bearer open sesame!\r\n").await;
        assert!(open.contains("assent_outbox_events 42"), "{open}");
        assert!(open.contains("content-type: application/openmetrics-text"), "{open}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_the_remedy() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = taken.local_addr().unwrap();
        let said = bind(&Http { listen, password: None }).await.unwrap_err().to_string();
        assert!(said.contains(&listen.to_string()) && said.contains("another port"), "{said}");
        assert!(!said.contains('\n'));
    }
}
