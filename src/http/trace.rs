//! One event of the log for each exchange with a server: what was asked and how it ended. Nothing
//! of headers, parameters and bodies but their size.

use super::{Call, Fault, Reply, Server};
use std::time::Instant;

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    call: &'a Call<'a>,
    server: &'a Server,
    /// Nothing where nobody listens.
    begun: Option<Instant>,
}

impl<'a> Exchange<'a> {
    /// It begins now.
    pub(super) fn begin(server: &'a Server, call: &'a Call<'a>) -> Self {
        let begun = tracing::enabled!(tracing::Level::DEBUG).then(Instant::now);
        Self { call, server, begun }
    }

    /// It ended, or its reply has begun to stream where no length is known.
    pub(super) fn ended(self, outcome: Result<&Reply, &Fault>) {
        match outcome {
            Ok(reply) => self.answered(reply.status, Some(reply.body.len())),
            Err(fault) => self.failed(fault),
        }
    }

    /// The head of a reply came, whose body is streamed.
    pub(super) fn streams(self, status: u16) {
        self.answered(status, None);
    }

    fn answered(self, status: u16, received: Option<usize>) {
        let Some(begun) = self.begun else { return };
        tracing::debug!(
            server = self.server.name(),
            method = self.method(),
            path = self.call.path,
            sent = self.sent(),
            status,
            received,
            seconds = begun.elapsed().as_secs_f64(),
        );
    }

    fn failed(self, fault: &Fault) {
        let Some(begun) = self.begun else { return };
        tracing::debug!(
            server = self.server.name(),
            method = self.method(),
            path = self.call.path,
            sent = self.sent(),
            fault = fault.reason,
            seconds = begun.elapsed().as_secs_f64(),
        );
    }

    fn method(&self) -> &'static str {
        if self.call.body.is_some() { "POST" } else { "GET" }
    }

    fn sent(&self) -> usize {
        self.call.body.as_ref().map_or(0, |body| body.as_ref().len())
    }
}
