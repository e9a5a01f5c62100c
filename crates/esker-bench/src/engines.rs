//! The engines that this build has.

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "leveldb")]
mod leveldb;
#[cfg(feature = "lmdb")]
mod lmdb;
mod own;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "sled")]
mod sled;

use crate::engine::{Engine, Result, Settings};

/// An engine in one configuration.
pub(crate) struct EngineKind {
    /// As options and reports call it.
    pub(crate) name: &'static str,
    /// What the report says about version and configuration.
    pub(crate) about: &'static str,
    pub(crate) open: fn(&Settings) -> Result<Box<dyn Engine>>,
    /// Whether writes that were not synced outlive the process, as durability D1 asks.
    pub(crate) survives_kill: bool,
    /// Whether single writes are so slow that a tenth of them has to do.
    pub(crate) writes_few: bool,
}

/// All engines of this build, Esker first.
pub(crate) const ENGINES: &[EngineKind] = &[
    own::KIND,
    #[cfg(feature = "rocksdb")]
    rocksdb::DEFAULT,
    #[cfg(feature = "rocksdb")]
    rocksdb::TUNED,
    #[cfg(feature = "fjall")]
    fjall::KIND,
    #[cfg(feature = "leveldb")]
    leveldb::KIND,
    #[cfg(feature = "lmdb")]
    lmdb::KIND,
    #[cfg(feature = "redb")]
    redb::KIND,
    #[cfg(feature = "sled")]
    sled::KIND,
];

/// The engine called `name`.
pub(crate) fn named(name: &str) -> Result<&'static EngineKind> {
    let names = || ENGINES.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
    let kind = ENGINES.iter().find(|kind| kind.name == name);
    kind.ok_or_else(|| format!("no engine '{name}' in this build; there are {}", names()).into())
}
