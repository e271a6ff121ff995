//! Options for requests to remote servers, from the command line and the environment.

#[cfg(feature = "bench")]
use std::path::PathBuf;
#[cfg(feature = "bench")]
use std::sync::OnceLock;
use std::time::Duration;

use bucket_streamer::quantities::MemorySize;
use bucket_streamer::source::remote::{HttpClient, HttpOptions};
use bucket_streamer::time;
use clap::Args;

use crate::console::{CommandOutcome, say};

/// Options for requests to remote servers.
#[derive(Debug, Args)]
pub(crate) struct RemoteArguments {
    /// Send this header to the http(s) server of an address; may be repeated
    #[arg(long, value_name = "NAME: VALUE", global = true)]
    pub(crate) header: Vec<String>,
    /// Also trust the certificates in this file (PEM)
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ca_file: Option<std::path::PathBuf>,
    /// Memory for bytes fetched over a network, for all videos together: 512M, 2G [default: 256M]
    #[arg(long, value_name = "SIZE", global = true, env = "BUCKET_STREAMER_FETCH_MEMORY")]
    pub(crate) fetch_memory: Option<MemorySize>,
    /// Give up opening a remote video after this time; time in which at least 1 MiB a second arrives does not count; 0
    /// for no limit [default: 60s; for `serve`: its --deadline]
    #[arg(long, value_name = "TIME", global = true, env = "BUCKET_STREAMER_OPEN_TIMEOUT", value_parser = timeout)]
    pub(crate) open_timeout: Option<Duration>,
}

/// Parses a duration; 0 for no limit.
fn timeout(text: &str) -> Result<Duration, String> {
    let nanos = u64::try_from(time::parse(text)?.0).ok().filter(|nanos| *nanos <= 86_400_000_000_000);
    nanos.map(Duration::from_nanos).ok_or_else(|| format!("{text} is not in 0 to 24h"))
}

/// The configured headers and certificates.
#[cfg(feature = "bench")]
static CONFIGURED: OnceLock<(Headers, Option<PathBuf>)> = OnceLock::new();

/// The headers for servers, by name, and the file of certificates (PEM) to trust beside the system's, for parts of the
/// command that send requests themselves.
#[cfg(feature = "bench")]
pub(crate) fn configured() -> (Headers, Option<PathBuf>) {
    CONFIGURED.get().cloned().unwrap_or_default()
}

/// Sent as a bearer token. A variable keeps the secret out of process lists.
const TOKEN: &str = "BUCKET_STREAMER_BEARER_TOKEN";

impl RemoteArguments {
    /// Applies the options to all addresses that are opened from now on.
    pub(crate) fn configure(&self) -> Result<(), CommandOutcome> {
        let refuse = |why: &str| {
            say(&format!("bucket-streamer: {why}"));
            CommandOutcome::Usage
        };
        let headers = headers(&self.header, std::env::var(TOKEN).ok()).map_err(refuse)?;
        let is_usual = headers.is_empty() && self.ca_file.is_none() && self.fetch_memory.is_none();
        #[cfg(feature = "bench")]
        let _ = CONFIGURED.set((headers, self.ca_file.clone()));
        if is_usual {
            return Ok(());
        }
        let options = http_options(self).map_err(refuse)?;
        HttpClient::new(options).map_err(|error| refuse(&error.to_string()))?.share();
        Ok(())
    }
}

/// The options of an HTTP client.
pub(crate) fn http_options(arguments: &RemoteArguments) -> Result<HttpOptions, &'static str> {
    let headers = headers(&arguments.header, std::env::var(TOKEN).ok())?;
    let (ca_file, usual) = (arguments.ca_file.clone(), HttpOptions::default());
    let cache = arguments.fetch_memory.map_or(usual.cache, |size| size.0);
    Ok(HttpOptions { headers, ca_file, cache, ..usual })
}

pub(crate) type Headers = Vec<(String, String)>;

/// Parses headers. An error omits the header's text: it may be a secret.
fn headers(typed: &[String], token: Option<String>) -> Result<Headers, &'static str> {
    let header = |typed: &String| -> Result<_, &'static str> {
        let (name, value) = typed.split_once(':').ok_or("--header needs 'Name: value' (see --help)")?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    let mut headers = typed.iter().map(header).collect::<Result<Headers, _>>()?;
    let has_authorization = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if let Some(token) = token.filter(|token| !token.is_empty() && !has_authorization) {
        headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::headers;

    #[test]
    fn a_typed_header_takes_precedence_over_the_token() {
        let of = |typed: &[&str]| headers(&typed.iter().map(|&it| it.to_owned()).collect::<Vec<_>>(), Some("t".into()));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(of(&["X-A: b:c "]), Ok(vec![pair("X-A", "b:c"), pair("Authorization", "Bearer t")]));
        assert_eq!(of(&["authorization:Basic x"]), Ok(vec![pair("authorization", "Basic x")]));
        assert!(of(&["geheim"]).is_err_and(|why| !why.contains("geheim")));
    }
}
