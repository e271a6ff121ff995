//! A small S3 server for tests: objects in memory, behind an implementation of the protocol that checks every
//! signature.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::dto::{
    ETag, ETagCondition, GetObjectInput, GetObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object,
    StreamingBlob,
};
use s3s::service::S3ServiceBuilder;
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use tokio::net::TcpListener;

/// The access key id that the server accepts.
pub const KEY_ID: &str = "AKIDEXAMPLE";
/// The secret of [`KEY_ID`].
pub const SECRET: &str = "wJalrXUtnFEMI+geheim/K7MDENG";

/// Most keys of a list page, so that there are several pages.
const PAGE: usize = 5;

/// Bytes and their ETag.
type TestObject = (Bytes, String);

/// By bucket and key.
type Objects = Arc<Mutex<HashMap<(String, String), TestObject>>>;

/// An accepted request: the object's key, the region of its signature, its range and condition.
#[derive(Debug, Clone)]
pub struct ObjectRequest {
    pub key: String,
    pub region: Option<String>,
    pub range: Option<String>,
    pub condition: Option<String>,
}

/// A server on a port of its own, for the lifetime of the process.
pub struct S3Server {
    address: SocketAddr,
    objects: Objects,
    log: Arc<Mutex<Vec<ObjectRequest>>>,
}

impl S3Server {
    /// Starts a server without objects on a free port of the loopback interface.
    pub fn start() -> S3Server {
        let (objects, log) = (Objects::default(), Arc::<Mutex<Vec<ObjectRequest>>>::default());
        let mut builder = S3ServiceBuilder::new(Service { objects: Arc::clone(&objects), log: Arc::clone(&log) });
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let service = builder.build();
        let (address_sender, address_receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                address_sender.send(listener.local_addr().expect("an address")).expect("the starter waits");
                while let Ok((stream, _)) = listener.accept().await {
                    let service = service.clone();
                    tokio::spawn(async move {
                        let _ =
                            Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            });
        });
        S3Server { address: address_receiver.recv().expect("it has started"), objects, log }
    }

    /// Adds or replaces an object of the bucket `clips`, and returns its address.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>, etag: &str) -> String {
        let location = ("clips".to_owned(), key.to_owned());
        self.objects.lock().expect("no panic").insert(location, (bytes.into(), etag.to_owned()));
        format!("s3://clips/{key}")
    }

    /// The address of the server, for `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Removes and returns the accepted requests since the last call.
    pub fn take_requests(&self) -> Vec<ObjectRequest> {
        std::mem::take(&mut self.log.lock().expect("no panic"))
    }
}

struct Service {
    objects: Objects,
    log: Arc<Mutex<Vec<ObjectRequest>>>,
}

#[async_trait::async_trait]
impl S3 for Service {
    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let entry = ObjectRequest {
            key: request.input.key.clone(),
            region: request.region.as_ref().map(ToString::to_string),
            range: header("range"),
            condition: header("if-match"),
        };
        self.log.lock().expect("no panic").push(entry);
        let input = request.input;
        let error = |code| Err(S3Error::new(code));
        let objects = self.objects.lock().expect("no panic");
        if !objects.keys().any(|(bucket, _)| *bucket == input.bucket) {
            return error(S3ErrorCode::NoSuchBucket);
        }
        let Some((bytes, etag)) = objects.get(&(input.bucket, input.key)) else {
            return error(S3ErrorCode::NoSuchKey);
        };
        let etag = ETag::Strong(etag.clone());
        if matches!(&input.if_match, Some(ETagCondition::ETag(condition)) if *condition != etag) {
            return error(S3ErrorCode::PreconditionFailed);
        }
        let len = bytes.len() as u64;
        let range = input.range.map(|range| range.check(len)).transpose()?;
        let content_range = range.as_ref().map(|range| format!("bytes {}-{}/{len}", range.start, range.end - 1));
        let part = range.map_or(bytes.clone(), |range| bytes.slice(range.start as usize..range.end as usize));
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(part.len() as i64),
            body: Some(StreamingBlob::from(Body::from(part))),
            content_range,
            e_tag: Some(etag),
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let (prefix, after) = (input.prefix.unwrap_or_default(), input.start_after.unwrap_or_default());
        let objects = self.objects.lock().expect("no panic");
        if !objects.keys().any(|(bucket, _)| *bucket == input.bucket) {
            return Err(S3Error::new(S3ErrorCode::NoSuchBucket));
        }
        let is_listed = |key: &str| key.starts_with(&prefix) && key > &after[..];
        let mut listed: Vec<_> =
            objects.iter().filter(|((bucket, key), _)| *bucket == input.bucket && is_listed(key)).collect();
        listed.sort_by_key(|(place, _)| *place);
        let is_truncated = listed.len() > PAGE;
        listed.truncate(PAGE);
        let object = |((_, key), (bytes, _)): (&(String, String), &TestObject)| Object {
            key: Some(key.clone()),
            size: Some(bytes.len() as i64),
            ..Default::default()
        };
        let contents = Some(listed.into_iter().map(object).collect());
        Ok(S3Response::new(ListObjectsV2Output { contents, is_truncated: Some(is_truncated), ..Default::default() }))
    }
}
