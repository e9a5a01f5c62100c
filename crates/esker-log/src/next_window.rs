//! The window after the current one, prepared by another thread, so that the writer need not wait
//! for the system.
//!
//! Preparing a window takes 65 to 140 us, or 0.5 to 3 ms over space that was never written, plus as
//! long as the file system needs to finish other work: tens of milliseconds during a sync of
//! another file. A writer that finds no window ready opens it itself.
//!
//! Promises to hand out no window for a place that the writer has not requested, or no longer
//! wants. Does not know what is written.

use esker_base::sync::{Mutex, MutexGuard, PoisonError};
use esker_env::{File, FileWindow};

/// A piece of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

impl Piece {
    /// The offset after it.
    pub(crate) const fn end(self) -> u64 {
        self.offset + self.len as u64
    }
}

/// What the writer and the preparing thread hand to each other.
#[derive(Debug, Default)]
pub(crate) struct NextWindow {
    /// Not held while a window is prepared or released.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    wanted: Option<Piece>,
    ready: Option<FileWindow>,
    /// Used up; released by the thread that prepares the next one.
    used: Option<FileWindow>,
}

impl NextWindow {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the prepared window, if there is one, and leaves `used` to be released.
    pub(crate) fn exchange(&self, used: Option<FileWindow>) -> Option<FileWindow> {
        let mut state = self.state();
        state.wanted = None;
        let given_back = std::mem::replace(&mut state.used, used);
        let ready = state.ready.take();
        drop(state);
        drop(given_back);
        ready
    }

    /// Requests a window at `place`.
    pub(crate) fn want(&self, place: Piece) {
        self.state().wanted = Some(place);
    }

    /// Cancels the request, and releases the windows that are there.
    pub(crate) fn clear(&self) {
        let state = std::mem::take(&mut *self.state());
        drop(state);
    }

    /// Prepares the requested window, if there is a request.
    pub(crate) fn ready(&self, file: &dyn File) {
        let mut state = self.state();
        let (wanted, used) = (state.wanted, state.used.take());
        drop(state);
        drop(used);
        let Some(place) = wanted else { return };
        let window = file.window(place.offset, place.len);
        let mut state = self.state();
        // The writer may have moved on, or ended the segment.
        if state.wanted == wanted {
            state.wanted = None;
            state.ready = window;
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_env::{FileSystem, OsFileSystem, PAGE_BYTES};

    use super::*;

    #[test]
    fn a_window_is_handed_out_once_and_only_where_it_is_wanted() {
        let path = std::env::temp_dir().join(format!("esker-next-window-{}", std::process::id()));
        let file = OsFileSystem.create(&path).unwrap();
        file.allocate(0, 16 * PAGE_BYTES).unwrap();
        OsFileSystem.remove(&path).unwrap();
        let place = Piece { offset: 4 * PAGE_BYTES, len: 4096 };
        if file.window(place.offset, place.len).is_none() {
            // This file system supports no windows.
            return;
        }
        let next = NextWindow::default();
        next.ready(&*file);
        assert!(next.exchange(None).is_none());
        next.want(place);
        next.ready(&*file);
        let window = next.exchange(None).unwrap();
        assert!(window.contains(place.offset, place.len));
        assert!(next.exchange(Some(window)).is_none());
        // Not wanted any more when it would be ready, or ready when the segment ends.
        next.want(place);
        assert!(next.exchange(None).is_none());
        next.ready(&*file);
        assert!(next.exchange(None).is_none());
        next.want(place);
        next.ready(&*file);
        next.clear();
        assert!(next.exchange(None).is_none());
    }
}
