//! A real S3-protocol server in this process, on a random loopback port, that can be told to misbehave.
//!
//! Owns the listener, its thread, and what `s3s-fs` lacks of S3: atomic conditional creation, checksums proven before
//! anything is stored, `If-Match`, missing buckets, and the list of unfinished uploads. Does not own any claim.

mod answers;
mod connection;
mod fault;
mod gateway;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use walrs::deadline::Deadline;
use walrs::storage::{ConnectOptions, S3Options, StaticCredentials};

pub(crate) use self::answers::Seen;
pub(crate) use self::fault::{Effect, Fault};
use self::gateway::Gateway;
use super::cluster_builder::Environment;
use super::scratch::Scratch;

const ACCESS_KEY: &str = "AKWALRSTEST";
const SECRET_KEY: &str = "not-much-of-a-secret";
const BUCKET: &str = "walrs-test";
const REGION: &str = "us-east-1";

/// A running server with one bucket; dropped, it stops and its data goes.
pub(crate) struct S3Server {
    /// The bucket that exists.
    pub(crate) bucket: &'static str,
    /// The key that may do everything.
    pub(crate) access_key: &'static str,
    /// Its secret half.
    pub(crate) secret_key: &'static str,
    endpoint: String,
    gateway: Arc<Gateway>,
    data: Scratch,
    runtime: Option<tokio::runtime::Runtime>,
}

impl S3Server {
    /// Starts a server with an empty bucket.
    pub(crate) fn start() -> Self {
        let data = Scratch::new();
        std::fs::create_dir(data.join(BUCKET)).expect("the scratch directory is ours");
        let store = s3s_fs::FileSystem::new(data.path()).expect("the directory exists");
        let mut service = S3ServiceBuilder::new(store);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let gateway = Arc::new(Gateway::new(service.build(), data.join(BUCKET)));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let listener = bind(&runtime);
        let address = listener.local_addr().expect("a bound listener has an address");
        runtime.spawn(serve(listener, Arc::clone(&gateway)));
        Self {
            bucket: BUCKET,
            access_key: ACCESS_KEY,
            secret_key: SECRET_KEY,
            endpoint: format!("http://{address}"),
            gateway,
            data,
            runtime: Some(runtime),
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The URL of a repository under `prefix`.
    pub(crate) fn url(&self, prefix: &str) -> String {
        format!("s3://{}/{prefix}", self.bucket)
    }

    /// Options for a repository under `prefix`, without anything from the environment, quick to notice silence.
    pub(crate) fn options(&self, prefix: &str) -> ConnectOptions {
        let s3 = S3Options {
            endpoint: Some(self.endpoint.clone()),
            region: Some(REGION.to_owned()),
            credentials: Some(StaticCredentials::new(self.access_key, self.secret_key)),
            idle_timeout: Duration::from_secs(5),
            ..S3Options::default()
        };
        let url = self.url(prefix).parse().expect("a valid URL");
        ConnectOptions { url, s3, deadline: Deadline::after(Duration::from_mins(1)) }
    }

    /// What a walrs process needs to find and use the server.
    pub(crate) fn environment(&self) -> Environment {
        let variables = [
            ("AWS_ACCESS_KEY_ID", self.access_key),
            ("AWS_SECRET_ACCESS_KEY", self.secret_key),
            ("AWS_REGION", REGION),
            ("WALRS_S3_ENDPOINT", &self.endpoint),
            ("WALRS_S3_PATH_STYLE", "true"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Misbehaves from now on as `fault` says; of several that match a request, the first injected acts.
    pub(crate) fn inject(&self, fault: Fault) {
        self.gateway.faults().push(fault);
    }

    /// Behaves again.
    pub(crate) fn forgive(&self) {
        self.gateway.faults().clear();
    }

    /// All requests so far, in the order in which they arrived.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.gateway.seen().clone()
    }

    /// How many requests of `method` had `part` in their target.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        self.gateway.seen().iter().filter(|seen| seen.is(method, part)).count()
    }

    /// The file that holds an object, to look at or to damage.
    pub(crate) fn object(&self, name: &str) -> PathBuf {
        self.data.join(self.bucket).join(name)
    }

    /// Multipart uploads that were begun and neither completed nor aborted.
    pub(crate) fn unfinished_uploads(&self) -> usize {
        self.gateway.uploads().len()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn bind(runtime: &tokio::runtime::Runtime) -> TcpListener {
    let _inside = runtime.enter();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    listener.set_nonblocking(true).expect("sockets can be non-blocking");
    TcpListener::from_std(listener).expect("inside of a runtime")
}

async fn serve(listener: TcpListener, gateway: Arc<Gateway>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let gateway = Arc::clone(&gateway);
        connections.spawn(connection::serve(TokioIo::new(socket), gateway));
        while connections.try_join_next().is_some() {}
    }
}
