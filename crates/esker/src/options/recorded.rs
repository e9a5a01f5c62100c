//! Options of a keyspace as the manifest records them.
//!
//! They only tune, so decoding is lenient: what a newer release added is ignored, a choice that
//! this build lacks becomes the default, and a number out of range becomes the nearest allowed one.

use std::time::Duration;

use esker_base::coding::{DecodeError, Decoder, put_varint};
use esker_tree::Merge;

use super::{
    BLOB_THRESHOLD_MIN, BLOB_WASTE, BLOCK_SIZES, CompactionPolicy, Compression, FILTER_BITS_MAX,
    KeyspaceOptions, UPKEEP_TIME_MIN, ZSTD_DICTIONARY_BYTES_MAX, ZSTD_LEVEL_MAX, as_millis,
};
use crate::expiry::millis_up;
use crate::options::sections::{for_each_section, put_section};

/// Tags of the sections that follow the policy's parameters in recorded options.
mod tag {
    pub(super) const MERGE_OPERATOR: u64 = 1;
    pub(super) const DEFAULT_TTL: u64 = 2;
    /// Compression from level to level.
    pub(super) const LEVELS: u64 = 3;
    /// Values that lie outside of tables.
    pub(super) const BLOBS: u64 = 4;
    /// The times of upkeep.
    pub(super) const UPKEEP: u64 = 5;
    /// Which prefixes filters hold.
    pub(super) const PREFIX_FILTER: u64 = 6;
}

impl KeyspaceOptions {
    /// The options as the manifest records them, without the order, which it records separately.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let (compaction, parameters) = self.compaction.encode();
        let compression = u64::from(self.compression.of_tables().as_byte());
        for field in [
            compaction,
            compression,
            u64::from(self.block_size_bytes),
            u64::from(self.filter_bits_per_key),
            self.memtable_bytes,
            self.immutable_memtables_max as u64,
            u64::from(self.log),
        ] {
            put_varint(&mut out, field);
        }
        let sections = self.encode_sections();
        // Nothing where there are none: so it was before any policy had parameters.
        if !parameters.is_empty() || !sections.is_empty() {
            put_varint(&mut out, parameters.len() as u64);
            for parameter in parameters {
                put_varint(&mut out, parameter);
            }
        }
        out.extend(sections);
        out
    }

    /// Sections for everything that differs from the defaults.
    fn encode_sections(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(merge) = &self.merge_operator {
            put_section(&mut out, tag::MERGE_OPERATOR, |body| {
                body.extend_from_slice(merge.name().as_bytes());
            });
        }
        if let Some(ttl) = self.default_ttl {
            put_section(&mut out, tag::DEFAULT_TTL, |body| put_varint(body, millis_up(ttl)));
        }
        if let Some(levels) = self.encode_levels() {
            put_section(&mut out, tag::LEVELS, |body| body.extend_from_slice(&levels));
        }
        let blobs = |o: &Self| [o.blob_threshold_bytes.unwrap_or(0), o.blob_waste_percent_max];
        if blobs(self) != blobs(&Self::default()) {
            put_section(&mut out, tag::BLOBS, |body| {
                blobs(self).iter().for_each(|&field| put_varint(body, u64::from(field)));
            });
        }
        let upkeep = |o: &Self| [o.delete_deadline, o.periodic_compaction, o.idle_compaction];
        if upkeep(self) != upkeep(&Self::default()) {
            put_section(&mut out, tag::UPKEEP, |body| {
                upkeep(self).iter().for_each(|time| put_varint(body, time.map_or(0, as_millis)));
            });
        }
        if let Some(rule) = self.prefix_filter {
            let name = rule.to_string();
            put_section(&mut out, tag::PREFIX_FILTER, |body| {
                body.extend_from_slice(name.as_bytes());
            });
        }
        out
    }

    /// Decodes the output of [`KeyspaceOptions::encode_sections`].
    fn decode_sections(&mut self, decoder: &mut Decoder<'_>) -> Result<(), DecodeError> {
        for_each_section(decoder, |tag, body| {
            match tag {
                tag::MERGE_OPERATOR => {
                    let not_text = body.error("a name is not UTF-8");
                    let name = std::str::from_utf8(body.rest()).ok().ok_or(not_text)?;
                    let known = crate::operators::by_name(name);
                    self.merge_operator = Some(known.unwrap_or_else(|| Merge::named(name)));
                }
                tag::DEFAULT_TTL => {
                    let millis = body.varint()?;
                    self.default_ttl = (millis > 0).then(|| Duration::from_millis(millis));
                }
                tag::LEVELS => self.decode_levels(body.rest())?,
                tag::BLOBS => {
                    let threshold = body.varint_u32()?;
                    self.blob_threshold_bytes = (threshold > 0).then_some(threshold);
                    self.blob_waste_percent_max = body.varint_u32()?;
                }
                tag::UPKEEP => {
                    for time in [
                        &mut self.delete_deadline,
                        &mut self.periodic_compaction,
                        &mut self.idle_compaction,
                    ] {
                        let millis = body.varint()?;
                        *time = (millis > 0).then(|| Duration::from_millis(millis));
                    }
                }
                tag::PREFIX_FILTER => {
                    let name = std::str::from_utf8(body.rest()).unwrap_or_default();
                    self.prefix_filter = name.parse().ok();
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// What differs from level to level; `None` where nothing does.
    fn encode_levels(&self) -> Option<Vec<u8>> {
        let defaults = Self::default();
        let is_default = self.shallow_compression == defaults.shallow_compression
            && self.last_level_compression.is_none()
            && self.zstd_level == defaults.zstd_level
            && self.zstd_dictionary_bytes == 0;
        if is_default {
            return None;
        }
        let last = self.last_level_compression.map_or(0, |c| c.of_tables().as_byte() + 1);
        let mut out = vec![self.shallow_compression.of_tables().as_byte(), last, self.zstd_level];
        put_varint(&mut out, u64::from(self.zstd_dictionary_bytes));
        Some(out)
    }

    fn decode_levels(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut decoder = Decoder::new(bytes);
        self.shallow_compression =
            Compression::recorded(decoder.u8()?).unwrap_or(self.shallow_compression);
        self.last_level_compression = decoder.u8()?.checked_sub(1).and_then(Compression::recorded);
        self.zstd_level = decoder.u8()?.clamp(1, ZSTD_LEVEL_MAX);
        self.zstd_dictionary_bytes = decoder.varint_u32()?.min(ZSTD_DICTIONARY_BYTES_MAX);
        Ok(())
    }

    /// Reads recorded options. The order is not among them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let defaults = Self::default();
        let choice = decoder.varint()?;
        let mut options = Self {
            compression: u8::try_from(decoder.varint()?)
                .ok()
                .and_then(Compression::recorded)
                .unwrap_or(defaults.compression),
            block_size_bytes: decoder.varint_u32()?,
            filter_bits_per_key: decoder.varint_u32()?,
            memtable_bytes: decoder.varint()?,
            immutable_memtables_max: decoder.varint_usize()?,
            log: decoder.varint()? != 0,
            ..defaults
        };
        let mut parameters = Vec::new();
        if !decoder.is_empty() {
            for _ in 0..decoder.varint()? {
                parameters.push(decoder.varint()?);
            }
        }
        if let Some(compaction) = CompactionPolicy::decode(choice, &parameters) {
            options.compaction = compaction;
        }
        options.decode_sections(&mut decoder)?;
        options.keep_within_limits();
        Ok(options)
    }

    /// Brings values from disk into the ranges that [`KeyspaceOptions::check`] allows.
    fn keep_within_limits(&mut self) {
        self.block_size_bytes =
            self.block_size_bytes.clamp(*BLOCK_SIZES.start(), *BLOCK_SIZES.end());
        self.filter_bits_per_key = self.filter_bits_per_key.min(FILTER_BITS_MAX);
        self.memtable_bytes = self.memtable_bytes.max(1);
        self.immutable_memtables_max = self.immutable_memtables_max.max(1);
        self.blob_threshold_bytes = self.blob_threshold_bytes.map(|it| it.max(BLOB_THRESHOLD_MIN));
        self.blob_waste_percent_max =
            self.blob_waste_percent_max.clamp(*BLOB_WASTE.start(), *BLOB_WASTE.end());
        let least = |time: Duration| time.max(UPKEEP_TIME_MIN);
        self.idle_compaction = self.idle_compaction.map(least);
        let may_rewrite = !self.compaction.keeps_ages_apart();
        self.delete_deadline = self.delete_deadline.filter(|_| may_rewrite).map(least);
        self.periodic_compaction = self.periodic_compaction.filter(|_| may_rewrite).map(least);
    }
}
