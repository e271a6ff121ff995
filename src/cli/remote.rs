//! What the command line and the environment say of how servers are asked.

use std::path::PathBuf;
use std::sync::OnceLock;

use bucket_streamer::source::remote::{HttpClient, HttpOptions};

use super::args::RemoteArguments;
use super::{Outcome, say};

/// What is sent to servers, and whom to trust, for those parts of the command line that ask servers themselves.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// Names and values.
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "the clients of a server want it"))]
    pub(crate) headers: Headers,
    /// Certificates (PEM) that are trusted beside the system's.
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "the clients of a server want it"))]
    pub(crate) ca_file: Option<PathBuf>,
}

static CHOSEN: OnceLock<Chosen> = OnceLock::new();

/// What the command line has chosen; nothing before it was read.
#[cfg(feature = "server")]
pub(crate) fn chosen() -> &'static Chosen {
    CHOSEN.get_or_init(Chosen::default)
}

/// Sent as a bearer token: not every secret should be seen in a list of processes.
const TOKEN: &str = "BUCKET_STREAMER_BEARER_TOKEN";

/// Makes it so for all addresses that are opened from now on.
pub(crate) fn configure(arguments: &RemoteArguments) -> Result<(), Outcome> {
    let refuse = |outcome, why: &str| {
        say(&format!("bucket-streamer: {why}"));
        outcome
    };
    let options = options(arguments).map_err(|why| refuse(Outcome::Usage, why))?;
    let usual = HttpOptions::default();
    let _ = CHOSEN.set(Chosen { headers: options.headers.clone(), ca_file: options.ca_file.clone() });
    if options.headers.is_empty() && options.ca_file.is_none() && options.cache == usual.cache {
        return Ok(());
    }
    let client = HttpClient::new(options);
    client.map_err(|error| refuse(Outcome::Usage, &error.to_string()))?.share();
    Ok(())
}

/// What was chosen, as a client takes it.
pub(crate) fn options(arguments: &RemoteArguments) -> Result<HttpOptions, &'static str> {
    let headers = headers(&arguments.header, std::env::var(TOKEN).ok())?;
    let (ca_file, usual) = (arguments.ca_file.clone(), HttpOptions::default());
    let cache = arguments.fetch_memory.map_or(usual.cache, |size| size.0);
    Ok(HttpOptions { headers, ca_file, cache, ..usual })
}

pub(crate) type Headers = Vec<(String, String)>;

/// Headers by name. What is wrong with one is told without it: it may be a secret.
fn headers(typed: &[String], token: Option<String>) -> Result<Headers, &'static str> {
    let header = |typed: &String| -> Result<_, &'static str> {
        let (name, value) = typed.split_once(':').ok_or("--header wants 'Name: value' (--help tells more)")?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    let mut headers = typed.iter().map(header).collect::<Result<Headers, _>>()?;
    let is_told = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if let Some(token) = token.filter(|token| !token.is_empty() && !is_told) {
        headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::headers;

    #[test]
    fn a_header_that_is_typed_counts_before_the_token() {
        let of = |typed: &[&str]| headers(&typed.iter().map(|&it| it.to_owned()).collect::<Vec<_>>(), Some("t".into()));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(of(&["X-A: b:c "]), Ok(vec![pair("X-A", "b:c"), pair("Authorization", "Bearer t")]));
        assert_eq!(of(&["authorization:Basic x"]), Ok(vec![pair("authorization", "Basic x")]));
        assert!(of(&["geheim"]).is_err_and(|why| !why.contains("geheim")));
    }
}
