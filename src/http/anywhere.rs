//! Sends a request once: to one node, and where that fails to the next.

use super::nodes::{Kind, Tried, Under};
use super::reader::BodyReader;
use super::trace::Exchange;
use super::{Attempts, Call, Client, Fault, FaultKind, REPLY_SHARE, Reply, Retry, retry};
use crate::pace::Outcome;
use std::time::Instant;

impl Client {
    /// Sends a request once, to the node that is read.
    ///
    /// # Errors
    /// Where no whole reply came from any node.
    pub fn once(&self, call: &Call<'_>) -> Result<Reply, Fault> {
        self.send(Kind::Plain, call, &mut Attempts::new(self.retry))
    }

    /// Sends a request once, to one node and no other.
    ///
    /// # Errors
    /// Where no whole reply came.
    pub fn once_at(&self, node: usize, call: &Call<'_>) -> Result<Reply, Fault> {
        let request = self.request(node, call);
        self.runtime.block_on(async {
            let response = request.send().await.map_err(|e| self.fault(node, &e))?;
            self.finish(node, response).await
        })
    }

    /// Sends a write once, to the node that has the least to do, as soon as its pace allows.
    /// `bytes` is what it carries before compression. It has to do no harm to send it twice: a node
    /// that failed may have carried it out. `attempts` is told how long it had to wait.
    ///
    /// # Errors
    /// Where no whole reply came from any node that lives.
    pub fn write(
        &self,
        call: &Call<'_>,
        bytes: usize,
        attempts: &mut Attempts,
    ) -> Result<Reply, Fault> {
        self.send(Kind::Write(bytes), call, attempts)
    }

    fn send(&self, kind: Kind, call: &Call<'_>, attempts: &mut Attempts) -> Result<Reply, Fault> {
        self.anywhere(kind, attempts, |under| {
            let begun = Some(Instant::now());
            let exchange = Exchange::begin(self.server_of(under.node), call);
            let request = self.request(under.node, call);
            let sent = self.runtime.block_on(async {
                let response = request.send().await.map_err(|e| self.fault(under.node, &e))?;
                self.arrived(&response);
                self.finish(under.node, response).await
            });
            exchange.ended(sent.as_ref());
            // What may have killed one node must not be sent to the next.
            let broken = match &sent {
                Ok(reply) => reply.status == 502,
                Err(fault) => fault.kind == FaultKind::Broken,
            };
            let spare = broken && matches!(kind, Kind::Write(_));
            let node = Some(under.node);
            let sent = sent.map_err(|fault| Fault { node, begun, ..fault });
            let elsewhere = settle(under, &sent, self.retry) && !spare;
            (sent, elsewhere)
        })
    }

    /// Sends a request whose reply is read as it comes; a reply other than 200 is kept whole.
    pub(super) fn stream_once(
        &self,
        call: &Call<'_>,
        attempts: &mut Attempts,
    ) -> Result<Result<BodyReader, Reply>, Fault> {
        self.anywhere(Kind::Query, attempts, |under| {
            let exchange = Exchange::begin(self.server_of(under.node), call);
            let request = self.request(under.node, call);
            let sent = self.runtime.block_on(async {
                let response = request.send().await.map_err(|e| self.fault(under.node, &e))?;
                self.arrived(&response);
                if response.status() == reqwest::StatusCode::OK {
                    return Ok(Ok(response));
                }
                self.finish(under.node, response).await.map(Err)
            });
            match &sent {
                Ok(Ok(response)) => exchange.streams(response.status().as_u16()),
                Ok(Err(reply)) => exchange.ended(Ok(reply)),
                Err(fault) => exchange.ended(Err(fault)),
            }
            match sent {
                Ok(Ok(response)) => {
                    under.answers();
                    let (handle, stretch) = (self.runtime.handle(), self.retry.total / REPLY_SHARE);
                    let reader = BodyReader::start(handle, response, under, stretch);
                    (Ok(Ok(reader)), false)
                }
                Ok(Err(reply)) => {
                    let refused = Ok(reply);
                    let elsewhere = settle(under, &refused, self.retry);
                    (refused.map(Err), elsewhere)
                }
                Err(fault) => {
                    let failed = Err(fault);
                    let elsewhere = settle(under, &failed, self.retry);
                    (failed.map(Err), elsewhere)
                }
            }
        })
    }

    /// Has a request sent by `attempt`, to one node after the other for as long as that says so.
    fn anywhere<T>(
        &self,
        kind: Kind,
        attempts: &mut Attempts,
        attempt: impl Fn(Under) -> (Result<T, Fault>, bool),
    ) -> Result<T, Fault> {
        let mut tried = Tried::default();
        let mut last = None;
        while let Some(under) = self.nodes.enter(kind, &mut tried) {
            attempts.held(under.waited);
            let (sent, elsewhere) = attempt(under);
            if !elsewhere {
                return sent;
            }
            last = Some(sent);
        }
        last.unwrap_or_else(|| Err(Fault::permanent("there is no node to ask")))
    }
}

/// Notes how a request ended; true where another node may do better.
fn settle(under: Under, sent: &Result<Reply, Fault>, retry: Retry) -> bool {
    match sent {
        Ok(reply) => {
            under.end(&retry::outcome(reply, retry));
            matches!(reply.status, 429 | 502 | 503)
        }
        Err(fault) if fault.kind == FaultKind::Unreadable => {
            under.end(&Outcome::Ended);
            false
        }
        Err(fault) => {
            under.fail(&outcome(fault.kind), &fault.reason);
            true
        }
    }
}

fn outcome(kind: FaultKind) -> Outcome {
    match kind {
        FaultKind::Timeout => Outcome::Slow { why: "timeout".into() },
        // A server that refuses a large body may close before it was taken.
        FaultKind::Broken => Outcome::Slow { why: "connection".into() },
        _ => Outcome::Busy { why: "connection".into(), after: None },
    }
}
