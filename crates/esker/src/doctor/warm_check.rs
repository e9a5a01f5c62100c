//! Lists of warm blocks, as the doctor looks at them: nothing depends on one, and a closed database
//! notices every flipped bit all the same.

use esker_base::{DatabaseId, FileId, FileKind, ManifestId};
use esker_env::FileError;
use esker_tree::{Catalog, WarmList};

use super::place::Place;
use super::report::Finding;
use crate::error::Result;

/// Checks the list that has the name that `id` has; `newest` is the manifest that counts with what it
/// says, where it is known.
pub(super) fn check_warm_list(
    place: &Place,
    id: FileId,
    database: DatabaseId,
    newest: Option<(ManifestId, &Catalog)>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let name = id.file_name(FileKind::Warm);
    let read = |file: &dyn esker_env::File| WarmList::read(file, id, database);
    let list = match place.env.fs.open(&place.dir.join(&name)).map_err(FileError::from) {
        Ok(file) => read(&*file),
        Err(error) => Err(error),
    };
    let list = match list {
        Ok(list) => list,
        Err(FileError::Corruption(corruption)) => {
            findings.push(Finding::new(corruption));
            return Ok(());
        }
        // A newer release has had the database open; without the list nothing is missing.
        Err(FileError::UnsupportedFormat(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // An older one was true once: a crash has brought it back.
    let Some((_, catalog)) = newest.filter(|(manifest, _)| manifest.0 == id) else {
        return Ok(());
    };
    if let Some(table) = list.tables.iter().find(|table| catalog.find_table(**table).is_none()) {
        let what = format!("names {table}, a table that the manifest of its id does not name");
        findings.push(Finding::at(name, 0, what));
    }
    Ok(())
}
