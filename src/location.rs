//! Locations: how a source or a destination is named on the command line.
//!
//! Recognised here is the form alone; what a path holds is found out when it is opened. A password
//! is refused wherever it appears, because arguments are visible to every user of the machine.

use crate::error::{Error, Result};
use crate::http::NODES_MAX;
use std::fmt;
use std::path::PathBuf;

/// Port of the HTTP interface of an InfluxDB 1.x server.
pub const INFLUX_PORT: u16 = 8086;
/// Port of its snapshots.
pub const SNAPSHOT_PORT: u16 = 8088;

/// A source or a destination, as named by the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `-`: standard input.
    Stdin,
    /// A file or a directory, recognised by its content.
    Path(PathBuf),
    /// `influxdb://` or `influxdbs://`.
    Influx(InfluxLocation),
    /// `influxdb-snapshot://`: the snapshot port of a server, which is read only.
    Snapshot(InfluxLocation),
    /// `null:`: a destination that only counts.
    Null,
}

/// `influxdb://[user@]host[:port][,host[:port]…][/prefix/][/db[/rp]]`: a URL prefix, as a reverse
/// proxy may want it, ends in a double slash. Several hosts are nodes of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfluxLocation {
    /// True for `influxdbs://`.
    pub tls: bool,
    /// User name, if one is given.
    pub user: Option<String>,
    /// The nodes, at least one, each named once.
    pub nodes: Vec<NodeLocation>,
    /// Path in front of the server's own, without a slash at its end; empty where there is none.
    pub prefix: String,
    /// Database, if one is given.
    pub database: Option<String>,
    /// Retention policy, if one is given.
    pub retention_policy: Option<String>,
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLocation {
    /// Host name or address, an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Location {
    /// Reads a location.
    ///
    /// # Errors
    /// A usage error that says what is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme {
                "influxdb" => Ok(Self::Influx(InfluxLocation::parse(false, rest, INFLUX_PORT)?)),
                "influxdbs" => Ok(Self::Influx(InfluxLocation::parse(true, rest, INFLUX_PORT)?)),
                "influxdb-snapshot" => Ok(Self::Snapshot(InfluxLocation::snapshot(rest)?)),
                "http" | "https" => Err(pasted_url(scheme, rest)),
                _ => Err(Error::usage(format!(
                    "{scheme}:// is no scheme of this version: write influxdb://host:8086/db, \
                     influxdbs://host:8086/db, a path, or - for standard input"
                ))),
            };
        }
        match text {
            "" => Err(Error::usage("a location is empty")),
            "-" => Ok(Self::Stdin),
            "null:" => Ok(Self::Null),
            path => Ok(Self::Path(PathBuf::from(path))),
        }
    }

    /// True where it is reached by TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Influx(influx) if influx.tls)
    }

    /// True where both name one place, as far as can be told without asking a server.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Path(one), Self::Path(two)) => {
                one == two
                    || one
                        .canonicalize()
                        .is_ok_and(|one| two.canonicalize().is_ok_and(|two| one == two))
            }
            (Self::Influx(one), Self::Influx(two)) => {
                // Neither the user nor further nodes make another place of it.
                let place = |location: &InfluxLocation| {
                    let (user, nodes) = (None, Vec::new());
                    InfluxLocation { user, nodes, ..location.clone() }
                };
                place(one) == place(two) && one.nodes.iter().any(|node| two.nodes.contains(node))
            }
            _ => self == other,
        }
    }
}

/// Explains a URL that was copied from a browser or a client's settings.
fn pasted_url(scheme: &str, rest: &str) -> Error {
    let tls = if scheme == "https" { "s" } else { "" };
    // What stands before the `@` may hold a password and is not repeated.
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split(['?', '#']).next().unwrap_or_default();
    Error::usage(format!(
        "{scheme}:// does not say which database speaks there: write influxdb{tls}://{host}"
    ))
}

impl InfluxLocation {
    fn snapshot(rest: &str) -> Result<Self> {
        let location = Self::parse(false, rest, SNAPSHOT_PORT)?;
        if location.user.is_some() || !location.prefix.is_empty() || location.nodes.len() != 1 {
            return Err(Error::usage(
                "the snapshot port knows no users, paths and clusters: write \
                 influxdb-snapshot://HOST:8088/DB/RP",
            ));
        }
        Ok(location)
    }

    fn parse(tls: bool, rest: &str, port: u16) -> Result<Self> {
        if rest.contains(['?', '#']) {
            return Err(Error::usage(
                "an influxdb:// location has no ? or # part: write influxdb://host:8086/db/rp, \
                 with %3F and %23 for these characters in a name",
            ));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(parse_user(user)?), hosts),
            None => (None, authority),
        };
        if user.is_none() && rest.contains('@') && parse_nodes(hosts, port).is_err() {
            // What was cut off at a slash may be a password and is not repeated.
            return Err(Error::usage(
                "a location reads influxdb://USER@HOST:PORT/DB/RP: write %40 and %2F for @ and / in a \
                 name, and give a password by GAPLESS_SOURCE_PASSWORD or GAPLESS_DESTINATION_PASSWORD",
            ));
        }
        let nodes = parse_nodes(hosts, port)?;
        let (prefix, path) = path.split_once("//").unwrap_or(("", path));
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        let mut names = path.split('/').filter(|name| !name.is_empty()).map(decode_percent);
        let database = names.next().transpose()?;
        let retention_policy = names.next().transpose()?;
        if names.next().is_some() {
            return Err(Error::usage(format!(
                "/{path} has more than a database and a retention policy: write /db or /db/rp, \
                 with %2F for a slash in a name"
            )));
        }
        Ok(Self { tls, user, nodes, prefix, database, retention_policy })
    }
}

impl fmt::Display for NodeLocation {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("-"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Influx(influx) => influx.fmt(f),
            Self::Snapshot(influx) => {
                let text = influx.to_string();
                write!(f, "influxdb-snapshot{}", text.strip_prefix("influxdb").unwrap_or(&text))
            }
            Self::Null => f.write_str("null:"),
        }
    }
}

impl fmt::Display for InfluxLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "influxdbs://" } else { "influxdb://" })?;
        if let Some(user) = &self.user {
            write!(f, "{}@", encode_percent(user))?;
        }
        for (at, node) in self.nodes.iter().enumerate() {
            write!(f, "{}{node}", if at > 0 { "," } else { "" })?;
        }
        if !self.prefix.is_empty() {
            write!(f, "{}/", self.prefix)?;
        }
        for name in [&self.database, &self.retention_policy].into_iter().flatten() {
            write!(f, "/{}", encode_percent(name))?;
        }
        Ok(())
    }
}

fn parse_user(user: &str) -> Result<String> {
    if user.contains(':') {
        return Err(Error::usage(
            "a password in a location is visible to every user of this machine: leave it out and \
             set GAPLESS_SOURCE_PASSWORD or GAPLESS_DESTINATION_PASSWORD",
        ));
    }
    decode_percent(user)
}

fn parse_nodes(text: &str, port: u16) -> Result<Vec<NodeLocation>> {
    let mut nodes = Vec::new();
    for part in text.split(',') {
        let node = parse_host(part, port)?;
        if nodes.contains(&node) {
            return Err(Error::usage(format!("the node {node} is named twice")));
        }
        if nodes.len() == NODES_MAX {
            let message = format!("a location names at most {NODES_MAX} nodes");
            return Err(Error::usage(message));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn parse_host(text: &str, default: u16) -> Result<NodeLocation> {
    let unreadable = || {
        let several = "of several, each like that with a comma between";
        Error::usage(format!(
            "{text:?} is no host and port: write host:8086 or [::1]:8086, {several}"
        ))
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(unreadable)?;
            (host, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(unreadable()),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Ok(default), |port| port.parse().map_err(|_ignored| unreadable()))?;
    if host.is_empty() || host.contains([' ', '@']) {
        return Err(unreadable());
    }
    Ok(NodeLocation { host: host.to_owned(), port })
}

fn decode_percent(text: &str) -> Result<String> {
    let unreadable =
        || Error::usage(format!("{text:?} is not percent-encoded UTF-8: write %25 for %"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (code, after) = rest.split_at_checked(2).ok_or_else(unreadable)?;
        let code = std::str::from_utf8(code).map_err(|_ignored| unreadable())?;
        if code.starts_with(['+', '-']) {
            return Err(unreadable());
        }
        bytes.push(u8::from_str_radix(code, 16).map_err(|_ignored| unreadable())?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_ignored| unreadable())
}

/// Encodes what has a meaning in a location, and what a shell or terminal could misread.
fn encode_percent(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn influx(text: &str) -> InfluxLocation {
        match Location::parse(text).unwrap() {
            Location::Influx(influx) => influx,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_part_of_an_influx_location_is_read() {
        let location = influx("influxdbs://ops@[::1]:9999/my%2Fdb/rp%20one");
        assert!(location.tls);
        assert_eq!(location.user.as_deref(), Some("ops"));
        assert_eq!(location.nodes, [NodeLocation { host: "::1".into(), port: 9999 }]);
        assert_eq!(location.database.as_deref(), Some("my/db"));
        assert_eq!(location.retention_policy.as_deref(), Some("rp one"));
        let plain = influx("influxdb://data1");
        assert_eq!((plain.nodes[0].port, plain.database), (8086, None));
    }

    #[test]
    fn several_nodes_are_read_each_with_its_port() {
        let location = influx("influxdbs://ops@a,b:9999,[::1],[fe80::1]:80/db");
        assert_eq!(location.user.as_deref(), Some("ops"));
        let nodes: Vec<String> = location.nodes.iter().map(NodeLocation::to_string).collect();
        assert_eq!(nodes, ["a:8086", "b:9999", "[::1]:8086", "[fe80::1]:80"]);
        assert_eq!(
            location.to_string(),
            "influxdbs://ops@a:8086,b:9999,[::1]:8086,[fe80::1]:80/db"
        );
        for text in ["influxdb://a,/db", "influxdb://,a", "influxdb://a,a:8086", "influxdb://a,::1"]
        {
            assert!(Location::parse(text).is_err(), "{text}");
        }
        let many: Vec<String> = (0..=NODES_MAX).map(|at| format!("n{at}")).collect();
        assert!(Location::parse(&format!("influxdb://{}", many.join(","))).is_err());
        assert!(Location::parse(&format!("influxdb://{}", many[1..].join(","))).is_ok());
    }

    #[test]
    fn one_node_in_common_makes_it_the_same_place() {
        let same = |one: &str, two: &str| {
            Location::parse(one).unwrap().same_place(&Location::parse(two).unwrap())
        };
        assert!(same("influxdb://a,b/x", "influxdb://me@c,b:8086/x"));
        assert!(!same("influxdb://a,b/x", "influxdb://c,d/x"));
        assert!(!same("influxdb://a,b/x", "influxdb://b,a/y"));
    }

    #[test]
    fn a_location_is_printed_as_it_can_be_typed_again() {
        for text in [
            "influxdbs://ops@[::1]:9999/my%2Fdb/rp%20one",
            "influxdb://a:8086/x",
            "influxdb://a:8086/proxy/one//x",
            "influxdb://a:8086,[::1]:8087/x",
            "-",
            "null:",
        ] {
            assert_eq!(Location::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn passwords_are_refused_and_not_repeated() {
        for text in [
            "influxdb://ops:geheim@host/db",
            "http://ops:geheim@host/db",
            "http://host/db?u=ops&p=geheim",
            "influxdb://host/db?u=ops&p=geheim",
            "influxdb://ops:geh/eim@host/db",
            "https://ops:geh/eim@host/db",
            "ftp://ops:geheim@host/db",
        ] {
            let message = Location::parse(text).unwrap_err().to_string();
            assert!(!message.contains("geh") && !message.contains("eim"), "{message}");
        }
    }

    #[test]
    fn a_pasted_url_is_explained() {
        let message = Location::parse("https://data1:8086/db?u=me").unwrap_err().to_string();
        assert!(message.ends_with("write influxdbs://data1:8086/db"), "{message}");
    }

    #[test]
    fn what_cannot_be_read_is_a_usage_error() {
        for text in [
            "",
            "influxdb://",
            "influxdb://:1/x",
            "influxdb://a:99999/x",
            "influxdb://a/b/c/d",
            "influxdb://a/%2",
            "influxdb://a/%zz",
            "influxdb://a/%ff",
            "influxdb://::1/x",
            "influxdb://a/b?q=1",
            "questdb2://a",
        ] {
            assert!(Location::parse(text).is_err(), "{text}");
        }
    }
}
