//! Decides which addresses are public: redirects may be confined to these ([`HttpOptions`](super::HttpOptions)).
//!
//! A name is checked when it is resolved for the connection: an earlier look-up could have another result. Literal
//! addresses are never looked up; `redirect` checks those.

use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::Refusal;

/// The refusal of any private address. It does not name the address, which is what a malicious redirect may want to
/// learn.
pub(super) const PRIVATE: Refusal = Refusal::Redirect("an address that is not public");

/// The system's resolver, which refuses names with any private address.
#[derive(Debug)]
pub(super) struct PublicAddresses;

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = move || (name.as_str(), 0).to_socket_addrs();
            let found: Vec<SocketAddr> = tokio::task::spawn_blocking(found).await??.collect();
            match found.iter().all(|address| is_public(address.ip())) {
                true => Ok(Box::new(found.into_iter()) as Addrs),
                false => Err(PrivateAddressError.into()),
            }
        })
    }
}

/// The error for a name with a private address.
#[derive(Debug)]
struct PrivateAddressError;

impl fmt::Display for PrivateAddressError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        PRIVATE.fmt(formatter)
    }
}

impl StdError for PrivateAddressError {}

/// Whether a private address is the reason for the lack of a connection.
pub(super) fn is_private(error: &reqwest::Error) -> bool {
    std::iter::successors(error.source(), |error| (*error).source()).any(|error| error.is::<PrivateAddressError>())
}

/// Whether a host is a literal, private address. A parsed address has its usual form, however it was written.
pub(super) fn is_private_literal(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse().is_ok_and(|address| !is_public(address))
}

/// Whether an address is globally reachable. (The registries of special addresses, RFC 6890, as of 2025.)
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224..=255, ..]      // this network, private, loopback, multicast and reserved
            | [100, 64..=127, ..]           // shared by a provider's customers
            | [169, 254, ..]                // of the link, and of a cloud's metadata
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]            // protocols, documentation
            | [192, 31, 196, _]
            | [192, 52, 193, _]
            | [192, 88, 99, _]              // relays of 6to4
            | [192, 168, ..]
            | [192, 175, 48, _]
            | [198, 18 | 19, ..]            // benchmarks
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [168, 63, 129, 16] // Azure's own services, for its machines
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0x2002, high, low, ..] => embedded(high, low),               // 6to4
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low), // NAT64
        [0x2001, 0..=0x1ff, ..] => false,                             // protocols, Teredo among them
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,       // documentation
        [0x2620, 0x4f, 0x8000, ..] => false,
        // Only 2000::/3 is assigned: this excludes ::1, IPv4-mapped, link-local and multicast addresses.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_private_literal, is_public};

    const PRIVATE: [&str; 41] = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2001:0:1::",
        "2001:db8::1",
        "fc00::1",
        "fd12::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "5f00::1",
        "3fff::1",
    ];

    const PUBLIC: [&str; 11] = [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.0.1",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "2606:4700::1111",
        "2a00::1",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ];

    #[test]
    fn nothing_of_a_private_network_is_public_in_any_form() {
        for address in PRIVATE {
            assert!(!is_public(address.parse().unwrap()), "{address}");
            assert!(is_private_literal(address), "{address}");
        }
        for address in PUBLIC {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn every_notation_of_an_address_is_checked() {
        for host in [
            "127.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "127.0.0.1.",
            "0",
            "%31%32%37.0.0.1",
            "１２７.0.0.1",
            "169.254.169.254",
            "[::ffff:a9fe:a9fe]",
        ] {
            let url = reqwest::Url::parse(&format!("http://{host}/")).unwrap();
            assert!(is_private_literal(url.host_str().unwrap()), "{host}");
        }
        assert!(!is_private_literal("example.com") && !is_private_literal("8.8.8.8"));
    }
}
