//! The end of the log: the current segment, and how far it is written.
//!
//! Does not know what frames hold, nor who wants them written.

use esker_base::{FileHeader, LogId, SeqNo};
use esker_log::LogWriter;

use super::{LiveSegment, Logs, SyncTarget};
use crate::error::Result;
use crate::ledger::Ledger;
use crate::sync::atomic::Ordering;

/// The end of the log. Owned by the commit leader.
#[derive(Debug, Default)]
pub(crate) struct Appender {
    pub(super) current: Option<(LogId, LogWriter)>,
    /// Bytes in the segments before the current one.
    base: u64,
}

/// Room that a frame needs: its own, and that of a mark and a seal after it, for which no check is
/// needed then.
const fn room_for(payload_bytes: u64) -> u64 {
    const MARK_PAYLOAD_BYTES_MAX: u64 = 32;
    payload_bytes.saturating_add(MARK_PAYLOAD_BYTES_MAX + 3 * LogWriter::FRAME_OVERHEAD_MAX)
}

impl Appender {
    /// Whether the next frame, with a payload of `payload_bytes`, goes to a new segment. A segment
    /// takes at least one frame, however large.
    pub(crate) fn is_full(&self, payload_bytes: u64, logs: &Logs) -> bool {
        self.current.as_ref().is_some_and(|(_, writer)| {
            logs.segment_bytes < writer.end_offset().saturating_add(room_for(payload_bytes))
                && FileHeader::LEN as u64 != writer.end_offset()
        })
    }

    /// The segment for the next frame, with a payload of `payload_bytes`; switches to a new one if
    /// the current one is full. `last_logged` is the last sequence number before the frame.
    ///
    /// # Errors
    /// If a new segment is needed and cannot be created, or there is no room for the frame; nothing
    /// of the frame was written.
    pub(crate) fn segment(
        &mut self,
        payload_bytes: u64,
        last_logged: SeqNo,
        logs: &Logs,
        ledger: &Ledger,
    ) -> Result<(LogId, &mut LogWriter)> {
        if self.current.is_none() || self.is_full(payload_bytes, logs) {
            self.begin(last_logged, logs, ledger)?;
        }
        let (id, writer) = self.current.as_mut().expect("a segment was just made current");
        writer.reserve(room_for(payload_bytes))?;
        Ok((*id, writer))
    }

    /// Begins a new segment; `last_logged` is the last sequence number before it.
    ///
    /// # Errors
    /// If it cannot be created; the current one then stays in use.
    pub(crate) fn begin(&mut self, last_logged: SeqNo, logs: &Logs, ledger: &Ledger) -> Result<()> {
        assert!(self.buffered_bytes() == 0, "a segment is left with all its frames written");
        let next = logs.next_segment(ledger)?;
        if let Some((_, full)) = &self.current {
            self.base += full.end_offset();
        }
        let mut segments = logs.segments();
        if let Some(full) = segments.live.back_mut() {
            full.last_seqno = last_logged;
        }
        let last_seqno = last_logged;
        let (bytes, is_recovered) = (0, false);
        segments.live.push_back(LiveSegment { id: next.0, bytes, last_seqno, is_recovered });
        segments.unsynced.push((next.0, SyncTarget::Writer(next.1.sync_handle())));
        drop(segments);
        self.current = Some(next);
        Ok(())
    }

    /// Encodes a frame into the current segment, if there is one.
    pub(crate) fn append_to_current(&mut self, payload: &[u8]) {
        if let Some((_, writer)) = &mut self.current {
            writer.append(&[payload]);
        }
    }

    /// Hands all encoded frames to the system, and returns the position of the log's end.
    ///
    /// # Errors
    /// Of the system; the segment then takes no more frames. The frames are lost, and every later
    /// call fails too. So code that relies on memtable entries being logged calls this first.
    pub(crate) fn write(&mut self, logs: &Logs) -> Result<u64> {
        if let Some((id, writer)) = &mut self.current
            && (writer.buffered_bytes() != 0
                || !esker_base::planted::is("failed-log-write-forgotten"))
        {
            writer.write()?;
            let end = writer.end_offset();
            // One more, for the recovered segments: see `Logs::new`.
            logs.written.store(self.base + end + 1, Ordering::Release);
            let mut segments = logs.segments();
            if let Some(live) = segments.live.back_mut().filter(|live| live.id == *id) {
                live.bytes = end;
            }
        }
        Ok(logs.written_position())
    }

    /// Whether [`Logs::prepare`] must now be called to prepare the window that the segment is
    /// written through. True once for each window.
    pub(crate) fn take_window_request(&mut self) -> bool {
        self.current.as_mut().is_some_and(|(_, writer)| writer.take_window_request())
    }

    /// Bytes encoded but not yet handed to the system.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.current.as_ref().map_or(0, |(_, writer)| writer.buffered_bytes())
    }

    /// Length of the current segment.
    pub(crate) fn current_bytes(&self) -> u64 {
        self.current.as_ref().map_or(0, |(_, writer)| writer.end_offset())
    }
}
