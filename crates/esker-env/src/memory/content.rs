//! The bytes of one file in memory: pages that copies share until one of them writes.
//!
//! Pages never written are not stored and read as zeros, so that room reserved costs nothing, and
//! a copy of the whole file system costs one counter per page.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE_LEN: usize = 4096;

type Page = [u8; PAGE_LEN];

/// Bytes with a length; cheap to copy.
#[derive(Clone, Default)]
pub(super) struct Content {
    len: u64,
    pages: Arc<BTreeMap<u64, Arc<Page>>>,
}

/// One stretch of a range that lies within one page.
struct Stretch {
    page: u64,
    within: usize,
    len: usize,
}

/// Cuts `offset..offset + len` at page ends.
fn stretches(offset: u64, len: usize) -> impl Iterator<Item = Stretch> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE_LEN as u64) as usize;
        let stretch = (PAGE_LEN - within).min(len - done);
        done += stretch;
        Some(Stretch { page: at / PAGE_LEN as u64, within, len: stretch })
    })
}

impl Content {
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Copies into `buffer` from `offset`; the count is short only at the end.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut rest = &mut buffer[..count];
        for Stretch { page, within, len } in stretches(offset, count) {
            let (piece, after) = rest.split_at_mut(len);
            match self.pages.get(&page) {
                Some(bytes) => piece.copy_from_slice(&bytes[within..within + len]),
                None => piece.fill(0),
            }
            rest = after;
        }
        count
    }

    /// Shows `see` the length, then each page that is not all zeros, after its number: the same for
    /// the same bytes.
    pub(super) fn visit(&self, see: &mut impl FnMut(&[u8])) {
        see(&self.len.to_le_bytes());
        for (number, page) in self.pages.iter().filter(|(_, page)| ***page != [0; PAGE_LEN]) {
            see(&number.to_le_bytes());
            see(&page[..]);
        }
    }

    /// Writes all of `bytes`, extending the length where they reach past it.
    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        let pages = Arc::make_mut(&mut self.pages);
        let mut rest = bytes;
        for Stretch { page, within, len } in stretches(offset, bytes.len()) {
            let (piece, after) = rest.split_at(len);
            let page = pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_LEN]));
            Arc::make_mut(page)[within..within + len].copy_from_slice(piece);
            rest = after;
        }
        if !bytes.is_empty() {
            self.extend(offset + bytes.len() as u64);
        }
    }

    /// Raises the length to `len`, with zeros; never cuts.
    pub(super) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Sets the length: cuts, or extends with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let pages = Arc::make_mut(&mut self.pages);
            pages.split_off(&len.div_ceil(PAGE_LEN as u64));
            // What lies past the new end must read as zeros if the file grows again.
            let within = (len % PAGE_LEN as u64) as usize;
            if within != 0
                && let Some(page) = pages.get_mut(&(len / PAGE_LEN as u64))
            {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(content: &Content) -> Vec<u8> {
        let mut bytes = vec![0xff; content.len() as usize];
        assert_eq!(content.read_at(0, &mut bytes), bytes.len());
        bytes
    }

    #[test]
    fn random_operations_equal_those_on_a_plain_vector() {
        let mut random = crate::random::SplitMix(3);
        let (mut content, mut model) = (Content::default(), Vec::new());
        let mut kept = Vec::new();
        for step in 0..400 {
            let at = random.below(20_000) as usize;
            if random.below(4) == 0 {
                content.set_len(at as u64);
                model.resize(at, 0);
            } else {
                let mut bytes = vec![0; random.below(6_000) as usize];
                random.fill(&mut bytes);
                content.write_at(at as u64, &bytes);
                if !bytes.is_empty() {
                    model.resize(model.len().max(at + bytes.len()), 0);
                    model[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
            if step % 50 == 0 {
                kept.push((content.clone(), model.clone()));
            }
            assert!(all(&content) == model, "step {step}");
        }
        assert!(kept.iter().all(|(content, model)| all(content) == *model));
    }
}
