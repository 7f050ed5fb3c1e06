//! A running server, read through its snapshot port.
//!
//! Each shard is fetched when it is opened, whole and as it is then: every write that was acknowledged
//! before is in it. A reply that is not whole is asked for again. Who asks for a shard while it is being
//! fetched waits, and shares what is fetched next with whoever waits too.

use super::packed::{self, Room, Salvage};
use super::shard::Shard;
use super::shared::Shared;
use super::{Absence, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::meta::{self, Meta, backup};
use crate::plan::Namespace;
use crate::snapshot::{Port, ShardName};
use std::path::PathBuf;
use std::sync::Arc;

/// The snapshot port of a server as a place.
#[derive(Debug)]
pub struct Live {
    port: Port,
    room: Room,
    /// Damage of files is passed over and named. A tar that is not whole is asked for again all the same.
    salvage: Option<Salvage>,
    shards: Shared<(Namespace, u64), Shard>,
}

impl Live {
    /// A server that answers. With `salvage`, damage of its files is passed over and counted.
    ///
    /// # Errors
    /// Where it does not, or what answers is no snapshot port.
    pub fn new(port: Port, room: Room, salvage: bool) -> Result<Self> {
        let live =
            Self { port, room, salvage: salvage.then(Salvage::default), shards: Shared::default() };
        live.meta()?;
        Ok(live)
    }

    fn label(&self, shard: ShardName<'_>) -> PathBuf {
        let ShardName { database, retention_policy, id } = shard;
        PathBuf::from(format!("{} {database}/{retention_policy}/{id}", self.port.name()))
    }

    fn fetch(&self, shard: ShardName<'_>) -> Result<Option<Shard>> {
        self.port.whole_shard(shard, "read the server by influxdb:// in its place", |reply| {
            let label = self.label(shard);
            let unpacked = packed::salvage(reply, &label, &self.room, self.salvage.as_ref())?;
            Ok(unpacked.shard)
        })
    }
}

impl Place for Live {
    fn name(&self) -> String {
        format!("snapshot port {}", self.port.name())
    }

    fn meta(&self) -> Result<Arc<Meta>> {
        let bytes = self.port.meta()?;
        let unread = |reason: String| {
            let (server, query) = (self.port.name(), "the meta store".to_owned());
            Error::from(ErrorKind::Reply { server, query, reason })
        };
        let framed = backup::framed(&bytes).map_err(|damage| unread(damage.to_string()))?;
        meta::decode(framed.meta).map(Arc::new).map_err(|damage| unread(damage.to_string()))
    }

    fn unread(&self) -> Vec<String> {
        self.salvage.as_ref().map_or_else(Vec::new, |salvage| salvage.remarks.texts())
    }

    fn absence(&self) -> Absence {
        Absence::Sure
    }

    fn open(&self, namespace: &Namespace, shard: u64) -> Result<Option<Arc<Shard>>> {
        let Namespace { database, retention_policy } = namespace;
        let name = ShardName { database, retention_policy, id: shard };
        self.shards.get((namespace.clone(), shard), || self.fetch(name))
    }
}
