//! `sign`: signs addresses of a server, which are then valid without a token.

use clap::Args;

use super::arguments::{Period, listed};
use crate::console::{CommandOutcome, say};

/// The arguments of `sign`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  BUCKET_STREAMER_URL_KEYS=secret-key bucket-streamer sign \
                  'https://frames.example.com/frame/cams/a.mp4?frame=120' --expires 1h")]
pub(crate) struct SignArguments {
    /// The address, or its path and query, as clients will request it
    address: String,
    /// Time for which the address is valid
    #[arg(long, value_name = "TIME", default_value = "1h")]
    expires: Period,
    /// Signing key, one of the server's [env: BUCKET_STREAMER_URL_KEYS, the first one]
    #[arg(long, value_name = "KEY")]
    url_key: Option<String>,
}

pub(crate) fn sign(arguments: &SignArguments) -> CommandOutcome {
    use std::io::Write;
    let listed = listed("BUCKET_STREAMER_URL_KEYS");
    let Some(key) = arguments.url_key.as_ref().or(listed.first()) else {
        say("bucket-streamer: sign needs a key: give --url-key or set BUCKET_STREAMER_URL_KEYS");
        return CommandOutcome::Usage;
    };
    // A server sees only the part of an address behind the host name.
    let address = &arguments.address;
    let begin = address.find("://").map_or(0, |scheme| scheme + 3);
    let path = if begin == 0 { 0 } else { address[begin..].find('/').map_or(address.len(), |slash| begin + slash) };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let signed = bucket_streamer_server::sign(key, &address[path..], now + arguments.expires.0.as_secs().max(1));
    match writeln!(std::io::stdout().lock(), "{}{signed}", &address[..path]) {
        Ok(()) => CommandOutcome::Done,
        Err(_) => CommandOutcome::SomeFailed,
    }
}
