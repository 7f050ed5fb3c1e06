//! Addresses of subscriptions: what of them is shown, and where they point.

/// An address without what may be secret in it: user, password and parameters.
#[must_use]
pub fn shown(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    // A password may hold any character: all before the last `@` is taken for it.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    let (place, parameters) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "?***"),
        None => (rest, ""),
    };
    format!("{scheme}{user}{place}{parameters}")
}

/// Where an address points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// True for UDP.
    pub udp: bool,
    /// Host name or address, in lower case, IPv6 without brackets.
    pub host: String,
    /// Port; where none is named, that of the scheme.
    pub port: u16,
}

/// Where an address points, if that can be read.
#[must_use]
pub fn endpoint(address: &str) -> Option<Endpoint> {
    let (scheme, rest) = address.split_once("://")?;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match place.strip_prefix('[') {
        Some(inside) => {
            let (host, port) = inside.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => match place.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let default = match scheme {
        "https" => 443,
        "http" => 80,
        _ => crate::location::INFLUX_PORT,
    };
    let port = port.map_or(Some(default), |port| port.parse().ok())?;
    Some(Endpoint { udp: scheme == "udp", host: host.to_ascii_lowercase(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_of_an_address_is_shown() {
        for (address, expected) in [
            ("http://h:9", "http://h:9"),
            ("http://u:p@h:9/x", "http://***@h:9/x"),
            ("http://u:p/@q@h:9?u=a&p=b", "http://***@h:9?***"),
            ("http://h?p=x@y", "http://***@y"),
            ("u:p@h", "***@h"),
        ] {
            assert_eq!(shown(address), expected);
        }
    }

    #[test]
    fn an_address_is_taken_apart() {
        let at = |address: &str| endpoint(address).map(|at| (at.udp, at.host, at.port));
        assert_eq!(at("http://u:p@Host:9/x"), Some((false, "host".into(), 9)));
        assert_eq!(at("udp://[::1]:9"), Some((true, "::1".into(), 9)));
        assert_eq!(at("https://h"), Some((false, "h".into(), 443)));
        assert_eq!(at("h:9"), None);
        assert_eq!(at("http://h:x"), None);
    }
}
