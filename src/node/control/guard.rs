//! Who may use the admin endpoints: the bearer of the token, or, when there is none, a client on
//! this host that is no browser lured from elsewhere.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};

use crate::config::Secret;

/// Headers a proxy adds: behind one, every client seems to be on this host.
const PROXY_HEADERS: &[&str] = &["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Barred {
    #[error("a token is needed: Authorization: Bearer …")]
    NoToken,
    #[error("the token is wrong")]
    WrongToken,
    #[error("without http.token only clients on this host may do this")]
    NotLocal,
    #[error("without http.token no request that came through a proxy may do this")]
    Proxied,
    #[error("the request names a host that is not this one")]
    ForeignHost,
    #[error("the request comes from a page of another origin")]
    ForeignOrigin,
}

impl Barred {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::NotLocal | Self::Proxied | Self::ForeignHost | Self::ForeignOrigin => {
                StatusCode::FORBIDDEN
            }
        }
    }
}

/// Whether this request may ask or act for an operator.
pub(super) fn admit(
    request: &Parts,
    peer: SocketAddr,
    token: Option<&Secret>,
) -> Result<(), Barred> {
    let host = host_of(request);
    if !is_own_origin(&request.headers, host) {
        return Err(Barred::ForeignOrigin);
    }
    if let Some(token) = token {
        let given = bearer(&request.headers).ok_or(Barred::NoToken)?;
        let same = is_same(given.as_bytes(), token.reveal().as_bytes());
        return same.then_some(()).ok_or(Barred::WrongToken);
    }
    if !peer.ip().to_canonical().is_loopback() {
        return Err(Barred::NotLocal);
    }
    if PROXY_HEADERS
        .iter()
        .any(|name| request.headers.contains_key(*name))
    {
        return Err(Barred::Proxied);
    }
    // A name may be made to point here (DNS rebinding), a literal may not.
    match host.map(host_without_port) {
        Some(host) if !is_literal_or_localhost(host) => Err(Barred::ForeignHost),
        Some(_) | None => Ok(()),
    }
}

/// Host with its port. Empty when it is no text, which fits nothing.
fn host_of(request: &Parts) -> Option<&str> {
    let of_uri = request.uri.authority().map(|authority| authority.as_str());
    let of_header = || Some(request.headers.get(header::HOST)?.to_str().unwrap_or(""));
    of_uri.or_else(of_header)
}

/// Browsers name the page that asks, and only in requests that matter: to elsewhere, or that
/// change something.
fn is_own_origin(headers: &HeaderMap, host: Option<&str>) -> bool {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return false;
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let origin = origin.to_str().unwrap_or("");
    let authority = ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.strip_prefix(scheme));
    matches!((authority, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
}

fn host_without_port(host: &str) -> &str {
    if let Some(end) = host.find(']') {
        return &host[..=end];
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

fn is_literal_or_localhost(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost") || bare.unwrap_or(host).parse::<IpAddr>().is_ok()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

/// In a time that tells the length of `given` alone.
fn is_same(given: &[u8], expected: &[u8]) -> bool {
    let mut differences = u8::from(given.len() != expected.len());
    for (index, octet) in given.iter().enumerate() {
        let other = expected.get(index % expected.len().max(1)).copied();
        differences = black_box(differences | (octet ^ other.unwrap_or(!octet)));
    }
    differences == 0
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn local(headers: &[(&str, &str)]) -> Result<(), Barred> {
        admit(&parts("/", headers), "127.0.0.1:999".parse().unwrap(), None)
    }

    #[test]
    fn without_a_token_only_this_host_is_let_in() {
        let request = parts("/", &[("host", "127.0.0.1:8000")]);
        for (peer, admitted) in [
            ("127.0.0.1:1", Ok(())),
            ("127.9.9.9:1", Ok(())),
            ("[::1]:1", Ok(())),
            ("[::ffff:127.0.0.1]:1", Ok(())),
            ("192.0.2.1:1", Err(Barred::NotLocal)),
            ("[::ffff:192.0.2.1]:1", Err(Barred::NotLocal)),
            ("[2001:db8::1]:1", Err(Barred::NotLocal)),
        ] {
            assert_eq!(
                admit(&request, peer.parse().unwrap(), None),
                admitted,
                "{peer}"
            );
        }
        assert_eq!(
            local(&[("x-forwarded-for", "192.0.2.1")]),
            Err(Barred::Proxied)
        );
    }

    #[test]
    fn with_a_token_its_bearer_is_let_in_from_anywhere() {
        let token = Secret::new("sesame");
        for (value, admitted) in [
            (Some("Bearer sesame"), Ok(())),
            (Some("bearer  sesame"), Ok(())),
            (Some("Bearer sesam"), Err(Barred::WrongToken)),
            (Some("Bearer sesamesesame"), Err(Barred::WrongToken)),
            (Some("Bearer "), Err(Barred::WrongToken)),
            (Some("Basic sesame"), Err(Barred::NoToken)),
            (Some("sesame"), Err(Barred::NoToken)),
            (None, Err(Barred::NoToken)),
        ] {
            let header = value.map(|value| ("authorization", value));
            let request = parts("/", header.as_slice());
            for peer in ["127.0.0.1:1", "192.0.2.1:1"] {
                let got = admit(&request, peer.parse().unwrap(), Some(&token));
                assert_eq!(got, admitted, "{value:?}");
            }
        }
    }

    #[test]
    fn a_browser_lured_from_elsewhere_is_turned_away() {
        let host = ("host", "127.0.0.1:8000");
        for (headers, admitted) in [
            (vec![host], Ok(())),
            (vec![("host", "localhost")], Ok(())),
            (vec![("host", "[::1]:8000")], Ok(())),
            (vec![host, ("origin", "http://127.0.0.1:8000")], Ok(())),
            (
                vec![host, ("origin", "http://evil.example")],
                Err(Barred::ForeignOrigin),
            ),
            (
                vec![host, ("origin", "http://127.0.0.1:9000")],
                Err(Barred::ForeignOrigin),
            ),
            (vec![host, ("origin", "null")], Err(Barred::ForeignOrigin)),
            (
                vec![host, ("sec-fetch-site", "cross-site")],
                Err(Barred::ForeignOrigin),
            ),
            (
                vec![("origin", "http://127.0.0.1:8000")],
                Err(Barred::ForeignOrigin),
            ),
            (
                vec![("host", "evil.example:8000")],
                Err(Barred::ForeignHost),
            ),
            (
                vec![("host", "127.0.0.1.evil.example")],
                Err(Barred::ForeignHost),
            ),
            (vec![("host", "")], Err(Barred::ForeignHost)),
            (
                vec![("host", "evil.example"), ("origin", "http://evil.example")],
                Err(Barred::ForeignHost),
            ),
        ] {
            assert_eq!(local(&headers), admitted, "{headers:?}");
        }
        let absolute = parts("http://evil.example/", &[host]);
        let admitted = admit(&absolute, "127.0.0.1:1".parse().unwrap(), None);
        assert_eq!(admitted, Err(Barred::ForeignHost));
    }
}
