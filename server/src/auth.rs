//! Authentication of requests: tokens in a header, and addresses signed with a key. `scope` has the videos that each
//! credential reaches.
//!
//! A signature is HMAC-SHA256 (RFC 2104) over the path and the query as they are sent, without `signature` itself.
//! `expires` is a part of the query, in seconds since 1970. A signature is therefore valid for exactly one address and
//! until a fixed time.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::Problem;
use super::roots::Roots;
use super::scope::{Credential, Reach};

/// Query parameter with the time until which the address is valid, in seconds since 1970.
const EXPIRES: &str = "expires";
/// Query parameter with the signature.
const SIGNATURE: &str = "signature";
/// Prefix of a token among the subprotocols of a WebSocket: pages cannot set headers there.
const SUBPROTOCOL: &str = "bearer.";

/// Checks the credentials of requests.
pub(super) struct Authenticator {
    /// SHA-256 of the tokens: digests of one length can be compared in constant time.
    tokens: Vec<[u8; 32]>,
    keys: Vec<String>,
    /// The reach of each token and each key, and the tokens' names in logs.
    token_reaches: Vec<Reach>,
    key_reaches: Vec<Reach>,
    names: Vec<String>,
}

/// The authenticated identity of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    /// The server has no tokens and no keys.
    Anonymous,
    /// The token with this number, counted from 0.
    Token(usize),
    /// An address that was signed with the key of this number, counted from 0.
    UrlKey(usize),
}

/// The credentials in a request.
pub(super) struct RequestCredentials<'a> {
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
    /// `Sec-WebSocket-Protocol`.
    pub(super) subprotocols: Option<&'a str>,
}

impl Authenticator {
    /// # Errors
    /// One line: a scope has a root or prefix that does not exist, or a secret occurs twice with different scopes.
    pub(super) fn new(tokens: &[Credential], keys: &[Credential], roots: &Roots) -> Result<Authenticator, String> {
        for list in [tokens, keys] {
            let is_ambiguous = |(number, one): (usize, &Credential)| {
                list[..number].iter().any(|other| other.secret == one.secret && other.scope != one.scope)
            };
            if list.iter().enumerate().any(is_ambiguous) {
                return Err("a token or key is given twice with different limits: remove one".to_owned());
            }
        }
        let reaches =
            |list: &[Credential]| list.iter().map(|one| Reach::new(&one.scope, roots)).collect::<Result<Vec<_>, _>>();
        let name = |(number, one): (usize, &Credential)| one.name.clone().unwrap_or_else(|| format!("#{number}"));
        Ok(Authenticator {
            tokens: tokens.iter().map(|token| checksum(&token.secret)).collect(),
            keys: keys.iter().map(|key| key.secret.clone()).collect(),
            token_reaches: reaches(tokens)?,
            key_reaches: reaches(keys)?,
            names: tokens.iter().enumerate().map(name).collect(),
        })
    }

    /// The videos that a principal reaches.
    pub(super) fn reach(&self, principal: &Principal) -> &Reach {
        match principal {
            Principal::Anonymous => &Reach::All,
            Principal::Token(number) => &self.token_reaches[*number],
            Principal::UrlKey(number) => &self.key_reaches[*number],
        }
    }

    /// The name of a token in logs.
    pub(super) fn name(&self, token: usize) -> &str {
        &self.names[token]
    }

    /// Whether any token or key reaches only a part of the videos.
    pub(super) fn is_limited(&self) -> bool {
        self.token_reaches.iter().chain(&self.key_reaches).any(|reach| !reach.is_all())
    }

    /// The key that signed the request's address, if one did.
    pub(super) fn key(&self, principal: &Principal) -> Option<&str> {
        if let Principal::UrlKey(number) = principal { Some(&self.keys[*number]) } else { None }
    }

    /// Authenticates a request: by its token, else by its signature.
    ///
    /// # Errors
    /// `unauthorized` without valid credentials, `forbidden` for a signature that is malformed, wrong or expired.
    pub(super) fn authenticate(&self, credentials: &RequestCredentials<'_>) -> Result<Principal, Problem> {
        if self.tokens.is_empty() && self.keys.is_empty() {
            return Ok(Principal::Anonymous);
        }
        let bearer = credentials.authorization.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        });
        if let Some(token) = bearer.or_else(|| subprotocol_token(credentials.subprotocols?)) {
            return self.token_number(&token).map(Principal::Token).ok_or_else(Problem::unauthorized);
        }
        match credentials.query.filter(|query| query.split('&').any(|part| part.split('=').next() == Some(SIGNATURE))) {
            Some(query) => self.verify_signature(credentials.path, query, now_s()).map(Principal::UrlKey),
            None => Err(Problem::unauthorized()),
        }
    }

    /// The number of a token. Compares all tokens in constant time, so that the duration reveals nothing.
    fn token_number(&self, token: &str) -> Option<usize> {
        let digest = checksum(token);
        let mut found = None;
        for (index, own) in self.tokens.iter().enumerate() {
            if bool::from(own.ct_eq(&digest)) {
                found = Some(index);
            }
        }
        found
    }

    /// The number of the key that made the signature of `path?query`.
    fn verify_signature(&self, path: &str, query: &str, now_s: u64) -> Result<usize, Problem> {
        let value = |name: &str| {
            let mut values = query.split('&').filter_map(|part| part.split_once('=')).filter(|(key, _)| *key == name);
            // Of two values, a proxy might use another one than this server.
            values.next().filter(|_| values.next().is_none()).map(|(_, value)| value)
        };
        let signature = value(SIGNATURE).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let signature = signature.ok_or_else(|| Problem::forbidden("the signature is malformed"))?;
        let expires = value(EXPIRES).and_then(|text| text.parse::<u64>().ok());
        let expires = expires.ok_or_else(|| Problem::forbidden("the address has no expiry time: sign it again"))?;
        let signed = without_signature(query);
        let is_match = |key: &String| signer(key, path, &signed).verify_slice(&signature).is_ok();
        let key = self.keys.iter().position(is_match);
        let key = key.ok_or_else(|| Problem::forbidden("the signature does not match this address"))?;
        if now_s > expires {
            return Err(Problem::forbidden("the address has expired: sign it again"));
        }
        Ok(key)
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn checksum(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// The token among the subprotocols that a page offers: `bearer.` and the Base64 (URL-safe, without padding) of the
/// token.
fn subprotocol_token(offered: &str) -> Option<String> {
    let token = offered.split(',').find_map(|one| one.trim().strip_prefix(SUBPROTOCOL))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

fn without_signature(query: &str) -> String {
    let rest: Vec<&str> = query.split('&').filter(|part| part.split('=').next() != Some(SIGNATURE)).collect();
    rest.join("&")
}

fn signer(key: &str, path: &str, query: &str) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let mut signer = <Hmac<Sha256> as KeyInit>::new_from_slice(key.as_bytes()).unwrap_or_else(|_| unreachable!());
    signer.update(path.as_bytes());
    signer.update(b"?");
    signer.update(query.as_bytes());
    signer
}

/// Signs an address: returns `path?query` with the parameters `expires` and `signature`.
///
/// `address` is the path and the query, percent-encoded as the client will send them. An earlier `expires` or
/// `signature` in it is replaced. The address is valid until `expires_s` seconds since 1970. The signature is
/// HMAC-SHA256 (RFC 2104) in URL-safe Base64 without padding (RFC 4648, section 5).
pub fn sign(key: &str, address: &str, expires_s: u64) -> String {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let is_kept =
        |part: &&str| !part.is_empty() && ![EXPIRES, SIGNATURE].contains(&part.split('=').next().unwrap_or(""));
    let expires = format!("{EXPIRES}={expires_s}");
    let parts: Vec<&str> = query.split('&').filter(is_kept).chain([expires.as_str()]).collect();
    let query = parts.join("&");
    let signature = URL_SAFE_NO_PAD.encode(signer(key, path, &query).finalize().into_bytes());
    format!("{path}?{query}&{SIGNATURE}={signature}")
}

#[cfg(test)]
mod tests {
    use super::{Authenticator, Principal, RequestCredentials, Roots, URL_SAFE_NO_PAD, now_s, sign};
    use base64::Engine;

    fn guard() -> Authenticator {
        let (tokens, keys) = (["first".into(), "second".into()], ["new key".into(), "old key".into()]);
        Authenticator::new(&tokens, &keys, &Roots::bundled()).unwrap()
    }

    fn credentials<'a>(address: &'a str, authorization: Option<&'a str>) -> RequestCredentials<'a> {
        let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
        RequestCredentials { path, query, authorization, subprotocols: None }
    }

    fn status(address: &str, authorization: Option<&str>) -> Result<Principal, u16> {
        guard().authenticate(&credentials(address, authorization)).map_err(|problem| problem.status)
    }

    #[test]
    fn without_credentials_requests_are_anonymous() {
        let guard = Authenticator::new(&[], &[], &Roots::bundled()).unwrap();
        assert_eq!(guard.authenticate(&credentials("/frame/a", None)).unwrap(), Principal::Anonymous);
    }

    #[test]
    fn only_exact_tokens_are_accepted() {
        assert_eq!(status("/a", Some("Bearer second")), Ok(Principal::Token(1)));
        assert_eq!(status("/a", Some("bearer first")), Ok(Principal::Token(0)));
        for wrong in
            ["Bearer", "Bearer ", "Bearer secon", "Bearer second2", "Basic second", "second", "Bearer first,second"]
        {
            assert_eq!(status("/a", Some(wrong)), Err(401), "{wrong}");
        }
        assert_eq!(status("/a", None), Err(401));
        assert_eq!(status("/a?token=second", None), Err(401));
        let offered = format!("bucket-streamer, bearer.{}", URL_SAFE_NO_PAD.encode("first"));
        let page = |subprotocols| RequestCredentials { subprotocols: Some(subprotocols), ..credentials("/ws", None) };
        assert_eq!(guard().authenticate(&page(&offered)).unwrap(), Principal::Token(0));
        assert!(
            guard().authenticate(&page("bearer.first")).is_err() && guard().authenticate(&page("bearer.")).is_err()
        );
    }

    #[test]
    fn a_signature_is_for_one_address_and_its_time() {
        let soon = now_s() + 60;
        for (place, key) in ["new key", "old key"].into_iter().enumerate() {
            let address = sign(key, "/frame/a%20b.mp4?frame=3&width=20", soon);
            assert_eq!(status(&address, None), Ok(Principal::UrlKey(place)), "{address}");
        }
        let good = sign("new key", "/frame/a.mp4?frame=3", soon);
        let wrong = [
            sign("other key", "/frame/a.mp4?frame=3", soon),
            sign("new key", "/frame/a.mp4?frame=3", now_s() - 2),
            good.replace("frame=3", "frame=4"),
            good.replace("a.mp4", "b.mp4"),
            good.replace(&soon.to_string(), &(soon + 1).to_string()),
            good.replace("frame=3", "frame=3&width=9"),
            good.replace("frame=3&", "frame=3&&"),
            format!("{good}&expires=99999999999"),
            format!("{good}&signature=AAAA"),
            good[..good.len() - 2].to_owned(),
            "/frame/a.mp4?frame=3&signature=".to_owned(),
            "/frame/a.mp4?frame=3&expires=99999999999&signature=AAAA".to_owned(),
        ];
        for address in wrong {
            assert_eq!(status(&address, None), Err(403), "{address}");
        }
        assert_eq!(status("/frame/a.mp4?frame=3&Signature=x", None), Err(401));
        // Signing again replaces the earlier parameters.
        assert_eq!(sign("new key", &good, soon), good);
    }
}
