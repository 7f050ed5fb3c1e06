//! What the reply to a write means: a pure function of its status and body.
//!
//! Only 204 acknowledges. The counts in a server's words (`dropped=1`) are never believed: only the
//! first reason of the first failing shard is in them, and they were seen to be too small.

/// What the reply to a write means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every row is stored.
    Stored,
    /// No row is to blame and repeating does not help.
    Permanent {
        /// The server's words.
        reason: String,
    },
    /// The server is busy or failing: the same again, later.
    BackOff,
    /// The server took too long: the same again, later, or less at once.
    Slow,
    /// The request is too large.
    Split,
    /// Some rows, or all, are refused; the others may be stored.
    Partly {
        /// Why, in the server's words; of one row only, where several are refused.
        reason: String,
    },
    /// The server failed, and it is not known whether a row makes it fail.
    Unclear {
        /// The server's words.
        reason: String,
    },
}

/// Beginnings of what a server says about rows, after `partial write: `.
const ABOUT_ROWS: [&str; 14] = [
    "unable to parse",
    "field type conflict",
    "points beyond retention policy",
    "invalid tag key",
    "invalid field name",
    "input field",
    "max-values-per-tag",
    "max-series-per-database",
    "max series",
    "max key length",
    "time outside range",
    "tag key",
    "metric parse error",
    "point",
];

/// Parts of what a failing server says when it is not a row's doing.
const SERVER_FAILS: [&str; 9] = [
    "cache-max-memory-size exceeded",
    "no space left on device",
    "read-only file system",
    "too many open files",
    "input/output error",
    "engine is closed",
    "shard is disabled",
    "hinted handoff",
    "write failed",
];

/// Judges the reply to a write.
#[must_use]
pub fn judge(status: u16, body: &[u8]) -> Verdict {
    let words = words(body);
    let reason = reason(&words);
    match status {
        204 => Verdict::Stored,
        400 | 422 => bad_request(&words, reason),
        408 | 429 | 502..=504 => Verdict::BackOff,
        413 => Verdict::Split,
        500 => server_error(&words, reason),
        200 => Verdict::Permanent { reason: "an answer that acknowledges nothing".into() },
        _ => Verdict::Permanent { reason },
    }
}

fn bad_request(words: &str, reason: String) -> Verdict {
    let about_request = ["database is required", "invalid consistency", "invalid precision"];
    if about_request.iter().any(|part| words.starts_with(part)) {
        return Verdict::Permanent { reason };
    }
    let said = words.strip_prefix("partial write: ");
    if said.is_some() || ABOUT_ROWS.iter().any(|part| words.starts_with(part)) {
        return Verdict::Partly { reason };
    }
    Verdict::Unclear { reason }
}

fn server_error(words: &str, reason: String) -> Verdict {
    if words.starts_with("retention policy not found") || words.starts_with("database not found") {
        return Verdict::Permanent { reason };
    }
    if words == "timeout" {
        return Verdict::Slow;
    }
    // In a cluster: stored on some of the nodes that the consistency level asks for.
    if words == "partial write" || SERVER_FAILS.iter().any(|part| words.contains(part)) {
        return Verdict::BackOff;
    }
    Verdict::Unclear { reason }
}

/// The error of a JSON reply, or the text of another, even where its end is missing.
fn words(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Failure {
        error: String,
    }
    if let Ok(failure) = serde_json::from_slice::<Failure>(body) {
        return failure.error;
    }
    let text = String::from_utf8_lossy(body);
    text.strip_prefix("{\"error\":\"").unwrap_or(&text).trim().to_owned()
}

/// The reason without the line it quotes, the count and the prefix, for one line of a message.
fn reason(words: &str) -> String {
    let mut reason = words.strip_prefix("partial write: ").unwrap_or(words);
    if let Some(at) = reason.rfind(" dropped=") {
        reason = &reason[..at];
    }
    if reason.starts_with("unable to parse '")
        && let Some(at) = reason.rfind("': ")
    {
        reason = &reason[at + 3..];
    }
    crate::http::shorten(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partly(reason: &str) -> Verdict {
        Verdict::Partly { reason: reason.into() }
    }

    #[test]
    fn only_204_acknowledges() {
        assert_eq!(judge(204, b""), Verdict::Stored);
        for status in [200, 201, 202, 301, 401, 403, 404] {
            let verdict = judge(status, b"{\"error\":\"x\"}");
            assert!(matches!(verdict, Verdict::Permanent { .. }), "{status}: {verdict:?}");
        }
    }

    #[test]
    fn rows_are_to_blame_for_what_a_server_says_of_them() {
        for (words, reason) in [
            (
                "partial write: unable to parse 'm v= 2': missing field value dropped=0",
                "missing field value",
            ),
            ("unable to parse 'm v=\\\"s': unbalanced quotes", "unbalanced quotes"),
            (
                "partial write: points beyond retention policy dropped=3 for database: d for retention policy: r",
                "points beyond retention policy",
            ),
            (
                "partial write: max-values-per-tag limit exceeded (1/2): x dropped=1",
                "max-values-per-tag limit exceeded (1/2): x",
            ),
        ] {
            let body = format!("{{\"error\":\"{words}\"}}\n");
            assert_eq!(judge(400, body.as_bytes()), partly(reason));
        }
        let conflict = br#"{"error":"partial write: field type conflict: input field \"v\" on measurement \"m\" is type string, already exists as type float dropped=1"}"#;
        assert_eq!(
            judge(400, conflict),
            partly(
                "field type conflict: input field \"v\" on measurement \"m\" is type string, already exists as type float"
            )
        );
    }

    #[test]
    fn requests_are_to_blame_for_the_rest() {
        let permanent = |status, words: &str| {
            let verdict = judge(status, format!("{{\"error\":{words:?}}}").as_bytes());
            assert!(matches!(verdict, Verdict::Permanent { .. }), "{status} {words}: {verdict:?}");
        };
        permanent(400, "database is required");
        permanent(400, "invalid consistency level");
        permanent(404, "database not found: \"x\"");
        permanent(500, "retention policy not found: x");
        permanent(401, "authorization failed");
    }

    #[test]
    fn what_may_pass_is_repeated() {
        assert_eq!(judge(500, b"{\"error\":\"timeout\"}"), Verdict::Slow);
        assert_eq!(judge(413, b"{\"error\":\"Request Entity Too Large\"}"), Verdict::Split);
        for (status, body) in [
            (503, ""),
            (429, ""),
            (502, "<html>"),
            (500, r#"{"error":"engine: cache-max-memory-size exceeded: (1/2)"}"#),
            (500, r#"{"error":"write /wal/1: no space left on device"}"#),
            (500, r#"{"error":"partial write"}"#),
        ] {
            assert_eq!(judge(status, body.as_bytes()), Verdict::BackOff, "{status} {body}");
        }
    }

    #[test]
    fn unknown_failures_are_not_blamed_on_rows_at_once() {
        for (status, body) in [
            (500, "Internal Server Error\n"),
            (500, r#"{"error":"proto: field \"tsdb.Field.Name\" contains invalid UTF-8"}"#),
            (400, "<html>Bad Request</html>"),
            (400, r#"{"error":"unexpected EOF"}"#),
        ] {
            let verdict = judge(status, body.as_bytes());
            assert!(matches!(verdict, Verdict::Unclear { .. }), "{body}: {verdict:?}");
        }
    }

    #[test]
    fn a_reply_that_was_cut_is_still_understood() {
        let body = format!("{{\"error\":\"unable to parse 'm v={}", "x".repeat(1000));
        assert!(matches!(judge(400, body.as_bytes()), Verdict::Partly { .. }));
    }
}
