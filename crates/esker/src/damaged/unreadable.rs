//! Unreadable parts of files: they read as zeros, and are recorded.
//!
//! So one bad sector costs only what is in it, as damage to the same bytes would: checksums show
//! that they are not what was written, and everything around them is read as usual. What could not
//! be read stays unreadable for as long as the doctor works, so that a repair finds what the
//! verification before it found.
//!
//! Errors count only if they happen twice. For the doctor, only those of the device do: denied access
//! says nothing about a file. Too many open files and too little memory remain errors for everybody.
//! Does not know what the bytes mean; the doctor's `causes.rs` relates unreadable parts to the damage
//! that they cause.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_env::{Advice, File, FileSystem, IoError};

use super::reading::Reading;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// The least that the system reads, and so the unit that becomes unreadable.
const PAGE_BYTES: u64 = 4096;

/// A part of a file that the device could not read.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) start: u64,
    /// Equal to `start` if it is the whole file, and its length is unknown.
    pub(crate) end: u64,
    /// What the system said.
    pub(crate) error: String,
    /// It was unreadable when this copy was made, which has zeros instead.
    is_of_copy: bool,
    /// Somebody has wanted it here.
    is_met: bool,
}

impl Part {
    #[cfg(test)]
    pub(crate) const fn met((start, end): (u64, u64)) -> Self {
        Self { start, end, error: String::new(), is_of_copy: false, is_met: true }
    }

    const fn is_over(&self, start: u64, end: u64) -> bool {
        self.start < end && start < self.end
    }
}

#[derive(Clone, Default, Debug)]
struct Refused {
    /// By their starts; they do not overlap.
    parts: BTreeMap<u64, Part>,
    /// The file cannot even be opened.
    is_whole: bool,
}

/// The unreadable parts found so far, by file.
#[derive(Default, Debug)]
pub(crate) struct Unreadable {
    files: Mutex<BTreeMap<PathBuf, Refused>>,
}

impl Unreadable {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Refused>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `start..end` of `path` was refused, and met here.
    fn add(&self, path: &Path, (start, end): (u64, u64), error: &IoError, is_whole: bool) {
        let mut files = self.lock();
        let refused = files.entry(path.to_path_buf()).or_default();
        refused.is_whole |= is_whole;
        let error = error.to_string();
        let before = refused.parts.range_mut(..start).next_back().map(|(_, part)| part);
        match before.filter(|part| part.end == start && part.error == error && !part.is_of_copy) {
            Some(before) => before.end = end,
            None => {
                let part = Part { start, end, error, is_of_copy: false, is_met: true };
                refused.parts.insert(start, part);
            }
        }
    }

    /// Notes of a copy that zeros stand in it for `start..end`, which was not given.
    pub(crate) fn add_of_copy(&self, path: &Path, (start, end): (u64, u64), error: &str) {
        let part = Part { start, end, error: error.to_owned(), is_of_copy: true, is_met: false };
        self.lock().entry(path.to_path_buf()).or_default().parts.insert(start, part);
    }

    /// Whether some of `start..end` was refused; it is wanted here.
    fn meets(&self, path: &Path, start: u64, end: u64) -> bool {
        let mut files = self.lock();
        let parts = files.get_mut(path).into_iter().flat_map(|refused| refused.parts.values_mut());
        let mut is_any = false;
        for part in parts.filter(|part| part.is_over(start, end)) {
            (part.is_met, is_any) = (true, true);
        }
        is_any
    }

    /// The parts of `path` that were refused to somebody who wanted them here.
    pub(crate) fn parts(&self, path: &Path) -> Vec<Part> {
        let files = self.lock();
        let parts = files.get(path).into_iter().flat_map(|refused| refused.parts.values());
        parts.filter(|part| part.is_met).cloned().collect()
    }

    /// The files of which something was refused, with those parts.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<Part>)> {
        let paths: Vec<PathBuf> = self.lock().keys().cloned().collect();
        let files = paths.into_iter().map(|path| {
            let parts = self.parts(&path);
            (path, parts)
        });
        files.filter(|(_, parts)| !parts.is_empty()).collect()
    }

    /// What was said of the first part of `path` that some of `start..end` lies in.
    pub(crate) fn error_at(&self, path: &Path, start: u64, end: u64) -> Option<String> {
        let parts = self.parts(path);
        parts
            .into_iter()
            .find(|part| part.is_over(start, end) || part.start == part.end)
            .map(|part| part.error)
    }

    /// Where the last part of `path` ends that was refused; 0 if none was.
    pub(crate) fn last_end(&self, path: &Path) -> u64 {
        // Of a file of which not even the length is known, nothing is.
        self.parts(path).last().map_or(0, |part| part.end.max(1))
    }

    /// Whether something of `path` was refused.
    pub(crate) fn has(&self, path: &Path) -> bool {
        !self.parts(path).is_empty()
    }

    /// Whether `path` itself holds what was refused, which may be had another time: it is no copy.
    pub(crate) fn is_refused_here(&self, path: &Path) -> bool {
        self.parts(path).iter().any(|part| !part.is_of_copy)
    }

    /// Whether `path` cannot even be opened.
    pub(crate) fn is_whole(&self, path: &Path) -> bool {
        self.lock().get(path).is_some_and(|refused| refused.is_whole)
    }

    /// How much was refused here: grows with whatever is refused for the first time.
    pub(crate) fn extent(&self) -> u64 {
        let parts = self.files().into_iter().flat_map(|(_, parts)| parts);
        let parts = parts.filter(|part| !part.is_of_copy);
        parts.map(|part| part.end.saturating_sub(part.start).saturating_add(1)).sum()
    }

    /// The first file that gives now what it refused before, by one more try at the start of each part.
    ///
    /// # Errors
    /// Of the system, but for those of the device.
    pub(crate) fn given_after_all(&self, fs: &dyn FileSystem) -> Result<Option<PathBuf>, IoError> {
        for (path, parts) in self.files() {
            let is_whole = self.is_whole(&path);
            for part in parts.iter().filter(|part| !part.is_of_copy) {
                let read = |file: Arc<dyn File>| match is_whole {
                    true => file.len().map(drop),
                    false => file.read_at(part.start, &mut [0]).map(drop),
                };
                match fs.open(&path).and_then(read) {
                    Ok(()) => return Ok(Some(path)),
                    Err(error) if error.is_of_the_device() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }
}

/// What the device does not give reads as zeros, in files that are opened for reading.
#[derive(Debug)]
pub(crate) struct Padding {
    unreadable: Arc<Unreadable>,
    is_refusal: IsRefusal,
}

/// Whether an error counts as a part that cannot be read.
type IsRefusal = fn(&IoError) -> bool;

impl Padding {
    /// Only what the device refuses is unreadable.
    pub(crate) fn of_the_device(unreadable: &Arc<Unreadable>) -> Self {
        Self { unreadable: Arc::clone(unreadable), is_refusal: IoError::is_of_the_device }
    }

    /// Whatever is refused for good is unreadable, for whatever reason.
    pub(crate) fn of_all(unreadable: &Arc<Unreadable>) -> Self {
        Self { unreadable: Arc::clone(unreadable), is_refusal: |error| !error.is_of_the_moment() }
    }
}

/// The length of a file that cannot be opened, as its directory has it; 0 where it does not say.
fn listed_len(fs: &dyn FileSystem, path: &Path) -> u64 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let entries = path.parent().and_then(|dir| fs.list(dir).ok()).unwrap_or_default();
    entries.iter().find(|entry| entry.name == *name).map_or(0, |entry| entry.len)
}

/// Does `attempt`, and does it again if it is refused.
fn twice<T>(
    is_refusal: IsRefusal,
    mut attempt: impl FnMut() -> Result<T, IoError>,
) -> Result<T, IoError> {
    match attempt() {
        Err(error) if is_refusal(&error) => attempt(),
        result => result,
    }
}

impl Reading for Padding {
    fn open(&self, inner: &dyn FileSystem, path: &Path) -> Result<Arc<dyn File>, IoError> {
        let (path, unreadable) = (path.to_path_buf(), Arc::clone(&self.unreadable));
        let is_refusal = self.is_refusal;
        let given_up =
            |len| PaddedFile { path: path.clone(), inner: None, len, unreadable, is_refusal };
        if self.unreadable.is_whole(&path) {
            return Ok(Arc::new(given_up(listed_len(inner, &path))));
        }
        let opened =
            twice(is_refusal, || inner.open(&path).and_then(|file| Ok((file.len()?, file))));
        match opened {
            Ok((len, inner)) => Ok(Arc::new(PaddedFile { inner: Some(inner), ..given_up(len) })),
            Err(error) if is_refusal(&error) => {
                let len = listed_len(inner, &path);
                self.unreadable.add(&path, (0, len), &error, true);
                Ok(Arc::new(given_up(len)))
            }
            Err(error) => Err(error),
        }
    }
}

/// Opened for reading.
#[derive(Debug)]
struct PaddedFile {
    path: PathBuf,
    /// `None` if it cannot be opened.
    inner: Option<Arc<dyn File>>,
    len: u64,
    unreadable: Arc<Unreadable>,
    is_refusal: IsRefusal,
}

impl PaddedFile {
    /// Reads up to `end`, the end of a page or one before it, with zeros if that is refused twice.
    fn read_page(&self, start: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let end = start + buffer.len() as u64;
        let Some(inner) = &self.inner else {
            buffer.fill(0);
            return Ok(buffer.len());
        };
        if self.unreadable.meets(&self.path, start, end) {
            buffer.fill(0);
            return Ok(buffer.len());
        }
        match twice(self.is_refusal, || inner.read_at(start, buffer)) {
            Err(error) if (self.is_refusal)(&error) => {
                buffer.fill(0);
                let first = start - start % PAGE_BYTES;
                let page = (first, (first + PAGE_BYTES).min(self.len).max(end));
                self.unreadable.add(&self.path, page, &error, false);
                Ok(buffer.len())
            }
            result => result,
        }
    }
}

impl File for PaddedFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let buffer = &mut buffer[..wanted];
        let end = offset.saturating_add(wanted as u64);
        if let Some(inner) = &self.inner
            && !self.unreadable.meets(&self.path, offset, end)
        {
            match inner.read_at(offset, buffer) {
                Err(error) if (self.is_refusal)(&error) => {}
                result => return result,
            }
        }
        let mut done = 0;
        while done < wanted {
            let start = offset + done as u64;
            let in_page = (PAGE_BYTES - start % PAGE_BYTES) as usize;
            let len = in_page.min(wanted - done);
            let count = self.read_page(start, &mut buffer[done..done + len])?;
            if count == 0 {
                break;
            }
            done += count;
        }
        Ok(done)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> Result<usize, IoError> {
        Err(self.only_read("write"))
    }

    fn sync_data(&self) -> Result<(), IoError> {
        Err(self.only_read("sync"))
    }

    fn sync_all(&self) -> Result<(), IoError> {
        Err(self.only_read("sync"))
    }

    fn allocate(&self, _offset: u64, _len: u64) -> Result<(), IoError> {
        Err(self.only_read("allocate"))
    }

    fn truncate(&self, _len: u64) -> Result<(), IoError> {
        Err(self.only_read("truncate"))
    }

    fn len(&self) -> Result<u64, IoError> {
        Ok(self.len)
    }

    fn advise(&self, advice: Advice) {
        self.inner.iter().for_each(|inner| inner.advise(advice));
    }

    fn data_from(&self, offset: u64) -> u64 {
        self.inner.as_ref().map_or(offset, |inner| inner.data_from(offset))
    }
}

impl PaddedFile {
    fn only_read(&self, operation: &'static str) -> IoError {
        IoError::new(operation, &self.path, io::ErrorKind::PermissionDenied.into())
    }
}
