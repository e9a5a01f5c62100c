//! A Zstandard dictionary: what the blocks of a table have in common, learnt before the table is
//! written, so that each small block need not repeat it.
//!
//! It is stored in the table that was compressed with it, so each table can be read by itself.
//! Without the cargo feature `zstd` there are none: a table that needs one is refused by its format
//! version.

#[cfg(feature = "zstd")]
use esker_base::sync::{Mutex, PoisonError};
use std::fmt;

/// Bytes of samples for each byte of a dictionary, as zstd recommends.
pub const SAMPLE_BYTES_PER_BYTE: usize = 100;

/// A dictionary, ready to unpack blocks.
pub struct Dictionary {
    bytes: Box<[u8]>,
    /// Idle contexts, for reuse. A context takes some hundred kilobytes and is slow to create; as
    /// many are kept as were used at once, up to `IDLE_MAX`. Not locked while unpacking.
    #[cfg(feature = "zstd")]
    idle: Mutex<Vec<zstd::bulk::Decompressor<'static>>>,
}

/// How many contexts are kept.
#[cfg(feature = "zstd")]
const IDLE_MAX: usize = 2;

impl Dictionary {
    /// Trains a dictionary of at most `bytes_max` on `samples`; `None` if there are too few
    /// samples, or the feature is not built in.
    ///
    /// # Cost
    /// About a second for 10 MiB of samples.
    #[must_use]
    pub fn train(samples: &[Vec<u8>], bytes_max: usize) -> Option<Self> {
        train(samples, bytes_max).map(Self::new)
    }

    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into_boxed_slice(),
            #[cfg(feature = "zstd")]
            idle: Mutex::default(),
        }
    }

    pub(crate) const fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its memory: its bytes, and a copy in each of its contexts.
    pub(crate) const fn memory_bytes(&self) -> usize {
        const CONTEXT_BYTES: usize = 160 << 10;
        self.bytes.len() + IDLE_COUNT * (self.bytes.len() + CONTEXT_BYTES)
    }

    /// Unpacks a block of `len` bytes.
    #[cfg(feature = "zstd")]
    pub(crate) fn unpack(&self, packed: &[u8], len: usize) -> Option<Vec<u8>> {
        let lock = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = lock().pop();
        let mut context = match idle {
            Some(context) => context,
            None => zstd::bulk::Decompressor::with_dictionary(&self.bytes).ok()?,
        };
        let payload = context.decompress(packed, len).ok()?;
        let mut idle = lock();
        if idle.len() < IDLE_MAX {
            idle.push(context);
        }
        Some(payload)
    }
}

#[cfg(feature = "zstd")]
const IDLE_COUNT: usize = IDLE_MAX;
#[cfg(not(feature = "zstd"))]
const IDLE_COUNT: usize = 0;

#[cfg(feature = "zstd")]
fn train(samples: &[Vec<u8>], bytes_max: usize) -> Option<Vec<u8>> {
    // The trainer wants several samples, and more of them than it may write.
    let sample_bytes: usize = samples.iter().map(Vec::len).sum();
    if samples.len() < 8 || sample_bytes < bytes_max.saturating_mul(8) {
        return None;
    }
    zstd::dict::from_samples(samples, bytes_max).ok().filter(|bytes| !bytes.is_empty())
}

#[cfg(not(feature = "zstd"))]
const fn train(_samples: &[Vec<u8>], _bytes_max: usize) -> Option<Vec<u8>> {
    None
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dictionary({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
#[cfg(feature = "zstd")]
mod tests;
