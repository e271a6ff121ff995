//! What may be chosen about requests.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::machine::Machine;

/// How a source behind HTTP is read. The default is meant for everyone.
#[derive(Clone)]
pub struct HttpOptions {
    /// Sent with every request to the server of the address, not to one that it redirects to, nor to object stores: name
    /// and value. Not shown by anything.
    pub headers: Vec<(String, String)>,
    /// Authorities whose certificates are trusted besides those that the machine trusts: PEM, one or more in each.
    pub roots: Vec<Vec<u8>>,
    /// Certificates (PEM) of authorities that are believed beside the system's.
    pub ca_file: Option<PathBuf>,
    /// For a connection to be made, TLS and all.
    pub connect_timeout: Duration,
    /// From a request to the head of its answer, a connection included.
    pub first_byte_timeout: Duration,
    /// From some bytes of a body to the next.
    pub stall_timeout: Duration,
    /// For one range with all its attempts, and for one read.
    pub deadline: Duration,
    /// Attempts for one range.
    pub attempts: u32,
    /// Redirects that one request follows.
    pub redirects: usize,
    /// Whether a redirect may lead anywhere. If not, one that leaves the server of the address is followed only to servers
    /// with public addresses, whatever their names stand for when the connection is made; never from https to http; and
    /// without a proxy, since that would look names up itself. The server of the address may have any, as may stores:
    /// whoever runs the program has named them. For programs that open what others ask for.
    pub private_redirects: bool,
    /// Requests under way at one time, per server.
    pub connections: usize,
    /// Requests that may be made a second time while the first is still waited for, for each request: `0.05` are five in a
    /// hundred, 0 none. They are made when nearly all answers of that server came sooner; which comes first counts.
    pub hedged_share: f64,
    /// Bytes that all sources of a client keep in memory between them. Half of them may be on their way for one request.
    pub cache: u64,
    /// What a demuxer's reads are rounded to, and how much is read when a file is opened.
    pub block: u64,
    /// The most that is read ahead.
    pub read_ahead: u64,
    /// Ranges that are no further apart than this are fetched in one request.
    pub gap: u64,
    /// The longest range of one request: longer ones are fetched side by side.
    pub longest: u64,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            headers: Vec::new(),
            roots: Vec::new(),
            ca_file: None,
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(60),
            attempts: 5,
            redirects: 5,
            private_redirects: true,
            connections: 16,
            hedged_share: 0.05,
            cache: Machine::read().memory_share(16, 256 << 20),
            block: 64 << 10,
            read_ahead: 4 << 20,
            gap: 64 << 10,
            longest: 8 << 20,
        }
    }
}

/// Without the headers' values: they may be credentials.
impl fmt::Debug for HttpOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| &name[..]).collect();
        formatter.debug_struct("HttpOptions").field("headers", &names).finish_non_exhaustive()
    }
}
