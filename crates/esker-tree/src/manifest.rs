//! The manifest: the durable log of version edits.
//!
//! A manifest is a log segment whose first frame is a whole catalog as one edit, and whose other
//! frames are edits to it. It is created under a temporary name and gets its own name only once
//! that first frame is durable, so a file with a manifest's name always holds a catalog. When it
//! has grown to a few times its first frame, or cannot be appended to, the next edit goes into the
//! first frame of a new manifest with a larger id. Only the manifest with the largest id counts: if
//! it is damaged, no older one takes its place. The previous one is kept for repairs, under a name
//! that says so; if only that one is found, the newest manifest is missing.
//!
//! A last frame with nothing behind it may be an edit that a crash interrupted, so damage to it would
//! look like that, and cost an edit that was acknowledged. So each edit, once it is durable, is followed
//! by a frame that says so, and changes nothing. That frame is not synced: a killed process leaves it
//! to the system, and what a power loss takes of it costs no edit.
//!
//! A close ends the database with a manifest of one frame and a seal; both are durable before the
//! file gets its name, and the frame says that the seal follows. So nothing can be cut off the
//! manifest of a closed database unnoticed.
//!
//! Does not know what edits are for, or which files they make obsolete.

pub(crate) mod names;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::{Corruption, DatabaseId, FileHeader, FileKind, ManifestId};
use esker_env::{FileError, FileSystem, UnsupportedFormat};
use esker_log::{ExpectedHeader, LogEnd, LogReader, LogSync, LogWriter, write_back};

use crate::catalog::{Catalog, Fold};
use crate::edit::{EditError, EditRecord, MANIFEST_FORMAT, VersionEdit};
use names::{files_in, parse_name, parse_predecessor, predecessor_name};

/// Suffix of a manifest's name until its first frame is durable.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// A manifest shorter than this is never replaced because of its length.
const ROTATE_BYTES_MIN: u64 = 1 << 20;

/// A manifest longer than this many times its first frame is replaced.
const ROTATE_FACTOR: u64 = 4;

/// Space reserved after the first frame of a new manifest, so that most appends do not change the
/// length of the file, which costs a sync more than the bytes do.
const ALLOCATE_BYTES: u64 = 64 << 10;

/// The log of version edits, open for appending, by one user at a time.
#[derive(Debug)]
pub struct Manifest {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    id: ManifestId,
    catalog: Catalog,
    /// `None` if the file cannot be appended to: the next edit starts a new one.
    segment: Option<Segment>,
    /// The file says that the database was closed, and nothing has been appended since.
    is_closed: bool,
    /// The first failed append or sync.
    poison: Option<FileError>,
}

#[derive(Debug)]
struct Segment {
    writer: LogWriter,
    sync: LogSync,
    /// The end of the first frame.
    snapshot_end: u64,
}

/// What [`Manifest::recover`] found.
#[derive(Debug)]
pub struct Recovered {
    /// Everything that the manifest says.
    pub catalog: Catalog,
    /// The id of the manifest.
    pub id: ManifestId,
    /// How it ends. [`LogEnd::Torn`] is what a crash in the middle of an append leaves: an edit
    /// that was never acknowledged, and is not in `catalog`.
    pub end: LogEnd,
    /// The database was closed and not changed since.
    pub is_closed: bool,
    reader: LogReader,
    snapshot_end: u64,
    /// The last frame only vouches for what is before it.
    is_vouched_for: bool,
}

impl Manifest {
    /// Creates the manifest `id` of a database whose state is `catalog`.
    ///
    /// # Durability
    /// The manifest and its name are durable when this returns.
    ///
    /// # Errors
    /// Of the system. It is then unknown until the next recovery whether the manifest exists.
    pub fn create(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        id: ManifestId,
        catalog: Catalog,
    ) -> Result<Self, FileError> {
        let mut manifest = Self {
            fs,
            dir: dir.to_owned(),
            id,
            catalog,
            segment: None,
            is_closed: false,
            poison: None,
        };
        let catalog = manifest.catalog.clone();
        manifest.start(id, catalog, false)?;
        Ok(manifest)
    }

    /// Reads the newest manifest of `dir`. Changes nothing. `None` if there is no manifest.
    ///
    /// # Errors
    /// - [`FileError::Io`] of the system.
    /// - [`FileError::Corruption`] if it is damaged anywhere except in an edit at the end that may
    ///   never have been acknowledged, or its contents are impossible; if that of a closed database
    ///   was truncated; if the newest is missing and the previous one is there.
    /// - [`FileError::UnsupportedFormat`] if a newer release wrote it, or any of its edits.
    pub fn recover(fs: &dyn FileSystem, dir: &Path) -> Result<Option<Recovered>, FileError> {
        let entries = files_in(fs, dir)?;
        let newest = entries.iter().filter_map(|entry| parse_name(&entry.name)).max();
        let predecessor =
            entries.iter().filter_map(|entry| Self::parse_predecessor(&entry.name)).max();
        if let Some(predecessor) = predecessor
            && newest < Some(predecessor)
        {
            let what = "the manifest that followed this one is missing";
            return Err(Corruption::new(Self::predecessor_name(predecessor), 0, what).into());
        }
        let Some(id) = newest else { return Ok(None) };
        Self::read(fs, dir, &id.file_name(), (id, None)).map(Some)
    }

    /// Checks the previous manifest, which only repairs read, of `database`: all that
    /// [`Manifest::recover`] would refuse of the newest. `name` is that of its file in `dir`, as
    /// [`Manifest::parse_predecessor`] takes it.
    ///
    /// # Errors
    /// As [`Manifest::recover`]. Damage to a last frame that only vouches for the others is none.
    pub fn check_predecessor(
        fs: &dyn FileSystem,
        dir: &Path,
        name: &str,
        (id, database): (ManifestId, DatabaseId),
    ) -> Result<(), FileError> {
        Self::read(fs, dir, name, (id, Some(database))).map(drop)
    }

    /// Reads the manifest `name` of `dir`, which should be `id`, and of `database` if that is known.
    fn read(
        fs: &dyn FileSystem,
        dir: &Path,
        name: &str,
        (id, database): (ManifestId, Option<DatabaseId>),
    ) -> Result<Recovered, FileError> {
        let expected = ExpectedHeader {
            kind: FileKind::Manifest,
            id: id.0,
            database,
            newest_format: MANIFEST_FORMAT,
        };
        let mut reader = LogReader::open(fs, &dir.join(name), &expected)?;
        let mut catalog = Fold::new(Catalog::new(reader.header().database));
        let mut first_frame = None;
        let mut snapshot_end = 0;
        let mut is_closed = false;
        let mut is_vouched_for = false;
        while let Some(frame) = reader.next_frame()? {
            let damaged = |what: String| Corruption::new(name, frame.offset, what);
            let edit = VersionEdit::decode(frame.payload).map_err(|error| match error {
                EditError::Malformed(error) => FileError::Corruption(Corruption::undecodable(
                    name,
                    frame.offset,
                    "edit",
                    error,
                )),
                EditError::NewerRecord { format, .. } => UnsupportedFormat {
                    file: name.to_owned(),
                    kind: FileKind::Manifest,
                    found: format,
                    newest: MANIFEST_FORMAT,
                }
                .into(),
            })?;
            let refused = |error| damaged(format!("edit does not fit: {error}"));
            catalog.take_in(&edit).map_err(refused)?;
            is_vouched_for = matches!(edit.records.as_slice(), [EditRecord::NextFileCounter(_)]);
            if first_frame.is_none() {
                first_frame = Some(frame.offset);
                snapshot_end = frame.offset + frame.payload.len() as u64;
                is_closed = edit.records.contains(&EditRecord::Closed);
            }
        }
        if first_frame.is_none() {
            let what = "manifest does not start with a whole catalog";
            return Err(Corruption::new(name, FileHeader::LEN as u64, what).into());
        }
        let mut catalog = catalog.into_catalog();
        catalog.reserve(id.0);
        let end = reader.end();
        if is_closed && !matches!(end, LogEnd::Sealed { .. }) {
            let what = "the database was closed, and the end of its manifest is missing";
            return Err(Corruption::new(name, end.offset(), what).into());
        }
        Ok(Recovered { catalog, id, end, is_closed, reader, snapshot_end, is_vouched_for })
    }

    /// Continues a manifest that was recovered from `dir`.
    ///
    /// # Durability
    /// What was recovered may have been only in the system's memory, after the death of the last
    /// process, and after a failed sync, no later one would store it. So it is written again, and
    /// durable when this returns; then files that it makes obsolete can be removed. The last edit is
    /// then vouched for, unless it is already, or something other than zeros follows it.
    ///
    /// # Errors
    /// Of the system, and `Corruption` if a second read does not find what the first has found.
    ///
    /// # Cost
    /// A sync of the file and one of the directory; both have nothing to do unless the database
    /// was not closed.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        recovered: Recovered,
    ) -> Result<Self, FileError> {
        let Recovered { catalog, id, end, is_closed, reader, snapshot_end, is_vouched_for } =
            recovered;
        let segment = match end {
            LogEnd::Clean { .. } if reader.header().format == MANIFEST_FORMAT => {
                let writer = LogWriter::resume(&*fs, &reader)?;
                let sync = writer.sync_handle();
                sync.sync()?;
                Some(Segment { writer, sync, snapshot_end })
            }
            LogEnd::Sealed { .. } => None,
            // Of an older format, or with something after the last edit: read, but left as it is.
            LogEnd::Clean { .. } | LogEnd::Torn { .. } => {
                let file = fs.open_for_write(reader.path())?;
                write_back(&*file, 0, &reader.extent()?)?;
                file.sync_data()?;
                None
            }
        };
        fs.sync_dir(dir)?;
        let dir = dir.to_owned();
        let mut manifest = Self { fs, dir, id, catalog, segment, is_closed, poison: None };
        if !is_vouched_for && !esker_base::planted::is("open-vouches-for-nothing") {
            manifest.vouch(manifest.catalog.next_file_counter);
        }
        // What a crash during the start of a manifest has left.
        manifest.remove_obsolete(id);
        Ok(manifest)
    }

    /// The id of the file that the edits go to.
    #[must_use]
    pub const fn id(&self) -> ManifestId {
        self.id
    }

    /// The sum of all edits that were appended.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Appends `edit`. If the file has grown long or cannot be appended to, starts a new one, whose
    /// id comes from `mint` and is larger than those of all existing files.
    ///
    /// # Durability
    /// The edit is durable when this returns.
    ///
    /// # Errors
    /// Of the system. It is then unknown until the next recovery whether the edit survives; every
    /// later append fails with the same error, until [`Manifest::restart`].
    ///
    /// # Panics
    /// If the edit does not fit the catalog: nothing was written.
    ///
    /// # Cost
    /// Two writes and one sync; for a new file, two syncs and the write of the whole catalog.
    pub fn append(
        &mut self,
        edit: &VersionEdit,
        mint: impl FnOnce() -> ManifestId,
    ) -> Result<(), FileError> {
        if let Some(error) = &self.poison {
            return Err(error.clone());
        }
        let next = self.after(edit);
        assert!(!edit.records.is_empty(), "an edit says something");
        let mut payload = Vec::new();
        edit.encode(&mut payload);
        let result = match self.segment.as_mut().filter(|s| s.has_room(payload.len() as u64)) {
            Some(segment) => segment.append(&payload),
            None => return self.start_with(mint(), next),
        };
        match &result {
            Ok(()) => {
                // Last: if any of this panics, the edit is not in the catalog.
                self.vouch(next.next_file_counter);
                self.catalog = next;
            }
            Err(error) => self.poison = Some(error.clone()),
        }
        result
    }

    fn start_with(&mut self, id: ManifestId, catalog: Catalog) -> Result<(), FileError> {
        let result = self.start(id, catalog, false);
        self.poison = result.as_ref().err().cloned();
        result
    }

    /// Appends a frame that says that all before it is durable, and that no file has the counter
    /// `next_file_counter`, which is known. If that fails, the next edit starts a new manifest.
    fn vouch(&mut self, next_file_counter: u64) {
        let Some(segment) = &mut self.segment else { return };
        // An edit has to say something: it says what is known.
        let known = EditRecord::NextFileCounter(next_file_counter);
        let mut payload = Vec::new();
        VersionEdit::from_iter([known]).encode(&mut payload);
        segment.writer.append(&[&payload]);
        if segment.writer.write().is_err() {
            self.segment = None;
        }
    }

    /// Starts over after a failed append: with a new manifest `id` that has every acknowledged
    /// edit, but not the failed one.
    ///
    /// # Durability
    /// The new manifest is durable when this returns.
    ///
    /// # Errors
    /// Of the system. Every later append fails with the same error, until this is called again,
    /// with a new id, and succeeds.
    pub fn restart(&mut self, id: ManifestId) -> Result<(), FileError> {
        self.start_with(id, self.catalog.clone())
    }

    /// Closes the database: `edit`, which may be empty, goes into a new manifest that is sealed at
    /// once. From then on any damage to it, and any truncation, is noticed. Changes nothing if
    /// nothing happened since the last close. A later append starts a new file.
    ///
    /// # Durability
    /// The edit and the manifest, including its name, are durable when this returns.
    ///
    /// # Errors
    /// Of the system, and as [`Manifest::append`] after a failure. No earlier edit is lost.
    ///
    /// # Panics
    /// If the edit does not fit the catalog: nothing was written.
    ///
    /// # Cost
    /// The write of the whole catalog, and four syncs.
    pub fn close(
        &mut self,
        edit: &VersionEdit,
        mint: impl FnOnce() -> ManifestId,
    ) -> Result<(), FileError> {
        if let Some(error) = &self.poison {
            return Err(error.clone());
        }
        let next = self.after(edit);
        if self.is_closed && next == self.catalog {
            return Ok(());
        }
        let result =
            self.start(mint(), next, true).and_then(|()| Ok(self.fs.sync_dir(&self.dir)?));
        self.poison = result.as_ref().err().cloned();
        result
    }

    fn after(&self, edit: &VersionEdit) -> Catalog {
        match self.catalog.with(edit) {
            Ok(catalog) => catalog,
            Err(error) => panic!("an edit that does not fit is not written: {error}\n{edit}"),
        }
    }

    /// Writes `catalog` as the first frame of the manifest `id` and, once that is durable, makes
    /// this the manifest to append to; or, if `closes`, the last one, to which nothing is appended.
    fn start(
        &mut self,
        id: ManifestId,
        mut catalog: Catalog,
        closes: bool,
    ) -> Result<(), FileError> {
        catalog.reserve(id.0);
        let mut payload = Vec::new();
        let mut snapshot = catalog.snapshot_edit();
        snapshot.records.extend(closes.then_some(EditRecord::Closed));
        snapshot.encode(&mut payload);
        let path = self.dir.join(id.file_name());
        let temporary = self.dir.join(id.file_name() + TEMPORARY_SUFFIX);
        let header = FileHeader {
            kind: FileKind::Manifest,
            format: MANIFEST_FORMAT,
            id: id.0,
            database: catalog.database,
        };
        if self.fs.exists(&temporary)? {
            self.fs.remove(&temporary)?;
        }
        let room = if closes { 0 } else { payload.len() as u64 + ALLOCATE_BYTES };
        let mut writer = LogWriter::create(&*self.fs, &temporary, header, room)?;
        let snapshot_end = writer.append(&[&payload]);
        let sync = writer.sync_handle();
        if closes {
            // Before the file gets its name, so that under that name the frame never exists without
            // the seal.
            writer.seal()?;
        } else {
            writer.write()?;
            sync.sync()?;
        }
        self.fs.rename(&temporary, &path)?;
        if !esker_base::planted::is("manifest-name-not-synced") {
            self.fs.sync_dir(&self.dir)?;
        }
        if let Some(mut old) = self.segment.take()
            && self.poison.is_none()
        {
            // The space reserved in the old one is no longer needed; if releasing it fails, that
            // does not matter.
            drop(old.writer.give_back_room());
        }
        self.remove_obsolete(id);
        self.id = id;
        self.catalog = catalog;
        self.segment = (!closes).then_some(Segment { writer, sync, snapshot_end });
        self.is_closed = closes;
        Ok(())
    }

    /// Renames the manifest before `newest` to say so, and removes all older ones and temporary
    /// files that a crash left. `newest` is durable under its name. What cannot be renamed or
    /// removed stays: it is never read, and this is tried again next time.
    fn remove_obsolete(&self, newest: ManifestId) {
        let Ok(entries) = files_in(&*self.fs, &self.dir) else { return };
        let mut older = Vec::new();
        for entry in &entries {
            let path = self.dir.join(&entry.name);
            let temporary = entry.name.strip_suffix(TEMPORARY_SUFFIX);
            if temporary.is_some_and(|name| parse_name(name).is_some()) {
                drop(self.fs.remove(&path));
            }
            let id = parse_name(&entry.name).or_else(|| Self::parse_predecessor(&entry.name));
            older.extend(id.filter(|id| *id < newest).map(|id| (id, path)));
        }
        older.sort();
        if let Some((id, path)) = older.pop() {
            let kept = self.dir.join(Self::predecessor_name(id));
            if path != kept {
                drop(self.fs.rename(&path, &kept));
            }
        }
        for (_, path) in older {
            drop(self.fs.remove(&path));
        }
    }

    /// The name of the manifest `id` as the previous one.
    #[must_use]
    pub fn predecessor_name(id: ManifestId) -> String {
        predecessor_name(id)
    }

    /// The id of the manifest whose name as the previous one is `name`.
    #[must_use]
    pub fn parse_predecessor(name: &str) -> Option<ManifestId> {
        parse_predecessor(name)
    }
}

impl Segment {
    fn has_room(&self, len: u64) -> bool {
        let limit = ROTATE_BYTES_MIN.max(self.snapshot_end.saturating_mul(ROTATE_FACTOR));
        self.writer.end_offset() + len <= limit
    }

    fn append(&mut self, payload: &[u8]) -> Result<(), FileError> {
        self.writer.append(&[payload]);
        self.writer.write()?;
        if !esker_base::planted::is("skip-manifest-sync") {
            self.sync.sync()?;
        }
        Ok(())
    }
}
