//! HTTP around the protocol: accepts connections and applies the faults.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::dto::StreamingBlob;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpResponse};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::faults::{Action, FaultPlan};
use super::load::Load;
use super::memory::Memory;
use super::protocol::Protocol;

/// Serves connections until told to stop.
pub(super) async fn accept(
    listener: std::net::TcpListener,
    memory: Arc<Memory>,
    faults: Arc<FaultPlan>,
    load: Load,
    (access, secret): (&'static str, &'static str),
    mut stopped: oneshot::Receiver<()>,
) {
    let listener = TcpListener::from_std(listener).expect("a listener for tokio");
    let mut builder = S3ServiceBuilder::new(Protocol(memory));
    builder.set_auth(SimpleAuth::from_single(access, secret));
    let service = Faulty {
        service: builder.build(),
        faults,
        load,
    };
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            _ = &mut stopped => return,
        };
        let Ok((socket, _)) = connection else {
            continue;
        };
        let _ = socket.set_nodelay(true);
        let service = service.clone();
        tokio::spawn(async move {
            // A connection that ends badly is the client's to notice.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

/// The S3 service, with load and faults around it.
#[derive(Clone)]
struct Faulty {
    service: S3Service,
    faults: Arc<FaultPlan>,
    load: Load,
}

type Answer = Result<HttpResponse, HttpError>;

impl hyper::service::Service<hyper::Request<Incoming>> for Faulty {
    type Response = HttpResponse;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let (number, fault) = self.faults.arrive(request.method().as_str(), &path, &query);
        let mut turn = self.load.arrive();
        let Self {
            service, faults, ..
        } = self.clone();
        Box::pin(async move {
            let answer = match turn.wait().await {
                true => apply(&service, request, fault).await,
                false => refuse(request.map(Body::from), 503, "SlowDown").await,
            };
            if let Ok(answer) = &answer {
                faults.answered(number, answer.status().as_u16());
                turn.answered();
            }
            answer
        })
    }
}

async fn apply(
    service: &S3Service,
    request: hyper::Request<Incoming>,
    fault: Option<Action>,
) -> Answer {
    let request = request.map(Body::from);
    match fault {
        None => service.call(request).await,
        Some(Action::Fail503) => refuse(request, 503, "SlowDown").await,
        Some(Action::Fail500) => refuse(request, 500, "InternalError").await,
        Some(Action::Forbid403) => refuse(request, 403, "AccessDenied").await,
        Some(Action::Conflict409) => refuse(request, 409, "ConditionalRequestConflict").await,
        Some(Action::Precondition412) => refuse(request, 412, "PreconditionFailed").await,
        Some(Action::Drop) => Err(reset()),
        Some(Action::Apply500) => {
            service.call(request).await?;
            error(500, "InternalError")
        }
        Some(Action::ApplyThenDrop) => {
            service.call(request).await?;
            Err(reset())
        }
        Some(Action::Truncate) => truncate(service.call(request).await?).await,
        Some(Action::Flip) => flip(service.call(request).await?).await,
        Some(Action::Delay(pause)) => {
            tokio::time::sleep(pause).await;
            service.call(request).await
        }
        Some(Action::Stall) => {
            service.call(request).await?;
            tokio::time::sleep(Duration::MAX).await;
            Err(reset())
        }
    }
}

/// An error of the service makes HTTP close the connection without an answer.
fn reset() -> HttpError {
    HttpError::new(Box::new(io::Error::new(
        io::ErrorKind::ConnectionReset,
        "a planned fault",
    )))
}

/// Reads the request to its end, so that the client gets to read the answer.
async fn refuse(request: s3s::HttpRequest, status: u16, code: &str) -> Answer {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.next().await {}
    error(status, code)
}

fn error(status: u16, code: &str) -> Answer {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>A planned fault.</Message></Error>"
    );
    hyper::Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .body(Body::from(xml))
        .map_err(|error| HttpError::new(Box::new(error)))
}

/// Sends the body with one bit turned, as a bad line or disk would.
async fn flip(answer: HttpResponse) -> Answer {
    let (head, body) = answer.into_parts();
    let content: Vec<Bytes> = body.try_collect().await.map_err(HttpError::new)?;
    let mut content = content.concat();
    let middle = content.len() / 2;
    if let Some(byte) = content.get_mut(middle) {
        *byte ^= 0x10;
    }
    Ok(HttpResponse::from_parts(
        head,
        Body::from(Bytes::from(content)),
    ))
}

/// Promises the whole body, sends half of it, and breaks off.
async fn truncate(answer: HttpResponse) -> Answer {
    let (mut head, body) = answer.into_parts();
    let content: Vec<Bytes> = body.try_collect().await.map_err(HttpError::new)?;
    let content = content.concat();
    head.headers.insert("content-length", content.len().into());
    let half = Bytes::copy_from_slice(&content[..content.len() / 2]);
    let broken = io::Error::new(io::ErrorKind::ConnectionReset, "a planned fault");
    let parts = stream::iter([Ok::<_, io::Error>(half), Err(broken)]);
    let body = Body::from(StreamingBlob::wrap(parts));
    Ok(HttpResponse::from_parts(head, body))
}
