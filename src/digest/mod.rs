//! Digests: what is compared instead of the data.
//!
//! A *cell* is one (series, field, time) with its typed value. Each cell gives two 128-bit hashes
//! ([`cell`]); a *node* adds up those of many cells ([`node`]); a *set* holds a node for each
//! series and bucket of time, sorted ([`set`]), so that two sets are compared by going through both once
//! ([`join`]). Buckets are hours; days where a series is sparse, minutes where it is dense ([`grid`],
//! [`leaf`]).
//! Sums know neither order nor grouping: data that are stored in other shards, batches or lines
//! have the same digest.
//!
//! What equal digests prove, and what not: two different sets of cells agree by accident with a
//! probability of about 2^-128 a comparison. XXH3 has no key, so a person who can choose the data
//! can construct a collision: digests find accidents, not adversaries.

pub mod cell;
mod fixed;
pub mod grid;
pub mod join;
pub mod leaf;
pub mod node;
pub mod set;
mod sum;
