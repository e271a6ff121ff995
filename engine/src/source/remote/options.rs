//! The options of remote sources.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::machine::Machine;

/// Limits and behaviour of HTTP sources. The defaults suit most servers.
#[derive(Clone)]
pub struct HttpOptions {
    /// Headers (name and value) of every request to the server of the address; not sent to servers that it redirects
    /// to, nor to object stores. Never shown.
    pub headers: Vec<(String, String)>,
    /// Certificate authorities trusted in addition to the system's: PEM, one or more in each.
    pub roots: Vec<Vec<u8>>,
    /// A PEM file of certificate authorities trusted in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// Limit of the connection set-up, with TLS.
    pub connect_timeout: Duration,
    /// Limit from a request to the head of its answer, with the connection.
    pub first_byte_timeout: Duration,
    /// Limit between bytes of a body.
    pub stall_timeout: Duration,
    /// Limit of a range with all its attempts, and of a read.
    pub deadline: Duration,
    /// Attempts for a range, with exponential back-off; an attempt that makes progress resets the count.
    pub attempts: u32,
    /// Redirects that a request follows.
    pub redirects: usize,
    /// Whether redirects may lead to private addresses. If not, a redirect away from the server of the address is
    /// followed only to public addresses (checked when the connection is made), never from https to http, and without a
    /// proxy, which would resolve the name itself. The server of the address and stores may have any address, since the
    /// program's user has named them. For programs that open addresses of their clients.
    pub private_redirects: bool,
    /// Requests in flight at one time, per server.
    pub connections: usize,
    /// Second requests (hedging) as a share of all requests: `0.05` are five in a hundred, 0 none. A request is hedged
    /// when it takes longer than nearly all others to that server; the first answer is used.
    pub hedged_share: f64,
    /// Bytes that all sources of a client keep in memory together. One hint may fetch up to half of them.
    pub cache: u64,
    /// Reads of a demuxer are rounded to this many bytes; opening reads as many.
    pub block: u64,
    /// The most bytes that are read ahead.
    pub read_ahead: u64,
    /// Ranges at most this many bytes apart are fetched in one request.
    pub gap: u64,
    /// The longest range of a request, in bytes: longer ones are split into parallel requests.
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

/// Without the headers' values, which may be credentials.
impl fmt::Debug for HttpOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| &name[..]).collect();
        formatter.debug_struct("HttpOptions").field("headers", &names).finish_non_exhaustive()
    }
}
