//! Secrets: held here, formatted nowhere, and taken out of what a server says.

use std::fmt;

/// A shorter password is in too many words to be taken out of them.
const REDACTED_MIN: usize = 4;

/// A password or token. Formatting it shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, for the request that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A server's words without the credentials that it was sent: a proxy's page for finding faults may
/// repeat the request with its headers.
pub(super) fn redacted(words: String, password: Option<&Secret>) -> String {
    let words = match password.map(Secret::expose) {
        Some(password) if password.len() >= REDACTED_MIN => words.replace(password, "***"),
        _ => words,
    };
    let mut parts = words.split("Basic ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        out.push_str("Basic ***");
        out.push_str(part.trim_start_matches(is_token));
    }
    out
}

/// The same of bytes; those that are no text stay as they are.
pub(super) fn without(bytes: Vec<u8>, password: Option<&Secret>) -> Vec<u8> {
    match String::from_utf8(bytes) {
        Ok(text) => redacted(text, password).into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_repeats_the_request_tells_nobody_the_password() {
        let secret = |text: &str| Secret::new(text.into());
        let said = "GET / Authorization: Basic YW5uOmh1bnRlcjI= p=hunter2, Basic YQ== no";
        let expected = "GET / Authorization: Basic *** p=***, Basic *** no";
        assert_eq!(redacted(said.into(), Some(&secret("hunter2"))), expected);
        let left = "GET / Authorization: Basic *** p=hunter2, Basic *** no";
        assert_eq!(redacted(said.into(), None), left);
        assert_eq!(redacted("database not found".into(), Some(&secret("a"))), "database not found");
    }
}
