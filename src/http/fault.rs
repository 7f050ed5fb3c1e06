//! What went wrong on the way to a reply, and whether it may pass.

use super::Server;
use std::error::Error as StdError;
use std::io;
use std::time::Instant;

/// A request that got no whole reply.
#[derive(Debug)]
pub struct Fault {
    /// Whether it may pass.
    pub kind: FaultKind,
    /// What happened.
    pub reason: String,
    /// What the operator can do.
    pub next: Option<String>,
    /// The node that was asked, by its number, where that is known.
    pub node: Option<usize>,
    /// When the request was sent, where that is known: it may have waited for its turn before.
    pub begun: Option<Instant>,
}

/// Whether a fault may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It will be the same next time.
    Permanent,
    /// Nobody listens there; it may pass. Nothing was sent.
    Refused,
    /// There is no connection; it may pass.
    Passing,
    /// The connection broke; it may pass. The request may have been carried out.
    Broken,
    /// Nothing came in time. The request may have been carried out.
    Timeout,
    /// The head of the reply is too long or malformed. The request was carried out or refused.
    Unreadable,
}

impl Fault {
    /// A fault that will be the same next time.
    pub(super) fn permanent(reason: impl Into<String>) -> Self {
        Self {
            kind: FaultKind::Permanent,
            reason: reason.into(),
            next: None,
            node: None,
            begun: None,
        }
    }

    /// True where the same request may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        use FaultKind::{Broken, Passing, Refused, Timeout};
        matches!(self.kind, Refused | Passing | Broken | Timeout)
    }
}

/// Plain HTTP was spoken to a port that wants TLS.
pub(super) fn plain_on_tls() -> Fault {
    Fault {
        next: Some("write influxdbs:// in place of influxdb://".into()),
        ..Fault::permanent("this port wants HTTPS and was spoken to in plain HTTP")
    }
}

/// A reply of which too little came for too long.
pub(super) fn too_slow() -> Fault {
    let reason = "the end of the reply did not come in time".into();
    Fault { kind: FaultKind::Timeout, reason, next: None, node: None, begun: None }
}

/// Judges an error of the transport. Before the server was `reached` once, nothing is expected to
/// pass: the address is more likely wrong.
pub(super) fn of(error: &reqwest::Error, server: &Server, reached: bool) -> Fault {
    if let Some(tls) = find::<rustls::Error>(error) {
        return of_tls(tls, server, reached);
    }
    let refused = |io: &io::Error| io.kind() == io::ErrorKind::ConnectionRefused;
    let passing = if error.is_connect() && find::<io::Error>(error).is_some_and(refused) {
        FaultKind::Refused
    } else if error.is_connect() {
        FaultKind::Passing
    } else if error.is_timeout() {
        FaultKind::Timeout
    } else {
        FaultKind::Broken
    };
    if let Some(http) = find::<hyper::Error>(error)
        && http.is_parse()
    {
        if reached {
            return Fault {
                kind: FaultKind::Unreadable,
                ..Fault::permanent(format!("the reply's head cannot be read: {http}"))
            };
        }
        return not_http(server, &http.to_string());
    }
    let reason =
        if error.is_timeout() { "no answer in time".to_owned() } else { root_cause(error) };
    Fault {
        kind: if reached { passing } else { FaultKind::Permanent },
        reason,
        next: (!reached).then(|| first_contact(error, server)),
        node: None,
        begun: None,
    }
}

fn first_contact(error: &reqwest::Error, server: &Server) -> String {
    let name = server.name();
    if error.is_dns() {
        return format!("is the host name {:?} right?", server.host);
    }
    if error.is_connect() || error.is_timeout() {
        return format!(
            "is the server running, is {name} its HTTP address (InfluxDB: port 8086), \
             and does a firewall let it through?"
        );
    }
    if server.tls {
        format!("does {name} speak HTTPS? plain HTTP is influxdb://")
    } else {
        format!("does {name} speak HTTP? HTTPS is influxdbs://")
    }
}

fn not_http(server: &Server, reason: &str) -> Fault {
    let next = if server.tls {
        "is this the HTTP port of the server?"
    } else {
        "is this the HTTP port of the server? HTTPS is influxdbs://"
    };
    Fault {
        next: Some(next.into()),
        ..Fault::permanent(format!("what answers does not speak HTTP: {reason}"))
    }
}

fn of_tls(error: &rustls::Error, server: &Server, reached: bool) -> Fault {
    use rustls::CertificateError as Certificate;
    let (reason, next) = match error {
        rustls::Error::InvalidMessage(_) => (
            "what answers does not speak TLS".to_owned(),
            "plain HTTP is influxdb://, without the s".to_owned(),
        ),
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => (
            format!("its certificate is not made out to {:?}", server.host),
            "name the host as its certificate does".to_owned(),
        ),
        rustls::Error::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        ) => (
            "its certificate has expired".to_owned(),
            "renew the server's certificate, or set this machine's clock".to_owned(),
        ),
        rustls::Error::InvalidCertificate(certificate) => (
            format!("its certificate is not trusted: {certificate}"),
            "name the file of the authority that signed it with --ca FILE".to_owned(),
        ),
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => (
            format!("its TLS is too old or too weak: {error}"),
            "have the server speak TLS 1.2 or 1.3".to_owned(),
        ),
        other => {
            let kind = if reached { FaultKind::Passing } else { FaultKind::Permanent };
            return Fault { kind, ..Fault::permanent(format!("TLS failed: {other}")) };
        }
    };
    Fault { next: Some(next), ..Fault::permanent(reason) }
}

/// The first error of type `T` in the chain. `io::Error` hides the one it wraps from `source`.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// The innermost error's own words: the outer ones only repeat the URL.
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server { tls: true, ..Server::at("db.example", 8086) }
    }

    #[test]
    fn a_certificate_that_cannot_be_used_says_why() {
        use rustls::CertificateError::{Expired, NotValidForName, UnknownIssuer};
        for (certificate, reason, next) in [
            (NotValidForName, "not made out to \"db.example\"", "as its certificate does"),
            (Expired, "expired", "renew"),
            (UnknownIssuer, "not trusted", "--ca FILE"),
        ] {
            let fault = of_tls(&rustls::Error::InvalidCertificate(certificate), &server(), true);
            assert_eq!(fault.kind, FaultKind::Permanent, "{fault:?}");
            assert!(fault.reason.contains(reason), "{fault:?}");
            assert!(fault.next.as_ref().is_some_and(|words| words.contains(next)), "{fault:?}");
        }
    }

    #[test]
    fn what_an_io_error_wraps_is_found() {
        let inner = io::Error::other(rustls::Error::DecryptError);
        let outer = io::Error::other(inner);
        assert!(find::<rustls::Error>(&outer).is_some());
        assert!(find::<hyper::Error>(&outer).is_none());
    }
}
