//! Reads one split: a blocking thread steps through the rows and builds Arrow
//! columns, the async side pays for them and hands them on.
//!
//! The thread holds nothing that is not paid for: it waits for an [`Allowance`]
//! before it fills a page and stops in front of the row that would not fit. Only
//! that one row is in SQLite's own memory meanwhile. When the async side goes
//! away, so does its end of the channel, and the statement is interrupted.

use std::sync::{Arc, PoisonError};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use highwater::source::{Emit, Projection, Reader, SourceError, SourceErrorKind, Split, TableRead};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tokio::sync::mpsc;

use super::connection::{Line, Problem, thread_died};
use super::page::{Finished, Layout, Page};
use super::physical::Physical;
use super::query::Query;
use super::snapshot::Idle;
use super::{fetch, version};

/// Text and blobs of one batch are addressed with 31 bits.
const LARGEST_BATCH: u64 = 1 << 30;

/// Bytes that the next page may take.
struct Allowance(u64);

/// A page, and what comes after it.
struct Reply {
    page: Finished,
    next: Next,
}

/// What follows a page.
#[derive(Clone, Copy)]
enum Next {
    /// A row that takes this much.
    Row(u64),
    /// Nothing: the split is read.
    End,
}

/// One connection of a snapshot; goes back to it when dropped.
pub(super) struct SqliteReader {
    line: Arc<Line>,
    idle: Idle,
}

impl SqliteReader {
    /// Reads with `line`, which belongs to `idle`.
    pub(super) fn new(line: Arc<Line>, idle: Idle) -> Self {
        Self { line, idle }
    }
}

impl Drop for SqliteReader {
    fn drop(&mut self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&self.line));
    }
}

#[async_trait]
impl Reader for SqliteReader {
    async fn read(
        &mut self,
        read: &TableRead,
        split: &Split,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        let (read, split) = (read.clone(), split.clone());
        self.pump(out, move |connection, pages| {
            fill(connection, &read, &split, pages)
        })
        .await
    }

    async fn fetch(
        &mut self,
        read: &TableRead,
        keys: &RecordBatch,
        out: &mut dyn Emit,
    ) -> Result<(), SourceError> {
        if keys.num_rows() == 0 {
            return Ok(());
        }
        let (read, keys) = (read.clone(), keys.clone());
        self.pump(out, move |connection, pages| {
            let mut filling = Filling::begin(pages, Layout::rows(&read.table)?)?;
            fetch::fetch(connection, &read, &keys, &mut filling)?;
            filling.end()
        })
        .await
    }
}

impl SqliteReader {
    /// Runs `work` on a blocking thread and hands on the pages that it fills.
    async fn pump(
        &self,
        out: &mut dyn Emit,
        work: impl FnOnce(&Connection, &mut Pages) -> Result<(), Problem> + Send + 'static,
    ) -> Result<(), SourceError> {
        let (allow, allowed) = mpsc::channel(1);
        let (reply, mut replies) = mpsc::channel(1);
        let line = Arc::clone(&self.line);
        let mut running = Running {
            line: Arc::clone(&line),
            ended: false,
        };
        let thread = tokio::task::spawn_blocking(move || {
            let mut pages = Pages { allowed, reply };
            line.with(|connection| work(connection, &mut pages))
        });
        let mut next = Next::Row(0);
        while let Next::Row(bytes) = next {
            let bytes = bytes.max(out.batch_bytes().clamp(1, LARGEST_BATCH));
            let mut permit = out.permit(bytes).await;
            // Whether it still listens shows in its reply.
            let _ = allow.send(Allowance(bytes)).await;
            let Some(reply) = replies.recv().await else {
                break;
            };
            next = reply.next;
            for row in reply.page.bad {
                out.quarantine(row).await?;
            }
            if reply.page.rows.num_rows() > 0 {
                permit.shrink_to(reply.page.rows.get_array_memory_size() as u64);
                out.batch(reply.page.rows, permit, reply.page.source_bytes)
                    .await?;
            }
        }
        let ended = thread.await.unwrap_or_else(|died| Err(thread_died(died)));
        running.ended = true;
        ended
    }
}

/// Interrupts the statement when the async side leaves before its end, so that
/// a long search does not outlive the run.
struct Running {
    line: Arc<Line>,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.line.interrupt();
        }
    }
}

/// The blocking side.
pub(super) struct Pages {
    allowed: mpsc::Receiver<Allowance>,
    reply: mpsc::Sender<Reply>,
}

/// Reads the rows of one split, or their keys.
fn fill(
    connection: &Connection,
    read: &TableRead,
    split: &Split,
    pages: &mut Pages,
) -> Result<(), Problem> {
    let physical = Physical::of(connection, &read.table.name)?;
    let query = Query::rows(&physical, read, Some(split))?;
    let mut statement = query.prepare(connection, read)?;
    let mut filling = Filling::begin(pages, Layout::of(read)?)?;
    let columns = read.table.columns.len();
    let mut rows = query.run(&mut statement)?;
    while let Some(row) = rows.next()? {
        let rowid: Option<i64> = if query.has_rowid { row.get(0)? } else { None };
        let mut cells: Vec<ValueRef<'_>> = Vec::with_capacity(columns);
        for position in 1..=columns {
            cells.push(row.get_ref(position)?);
        }
        match read.projection {
            Projection::Rows => filling.row(rowid, &cells)?,
            Projection::Keys { .. } => {
                let version = version::of(&cells);
                let key = read.table.key.iter();
                let mut cells: Vec<_> = key.filter_map(|&at| cells.get(at).copied()).collect();
                cells.extend([
                    ValueRef::Text(version.as_bytes()),
                    row.get_ref(columns + 1)?,
                ]);
                filling.row(rowid, &cells)?;
            }
        }
    }
    filling.end()
}

/// Pages, filled row by row, each within what it may take.
pub(super) struct Filling<'a> {
    pages: &'a mut Pages,
    layout: Arc<Layout>,
    page: Page,
    allowance: u64,
}

impl<'a> Filling<'a> {
    fn begin(pages: &'a mut Pages, layout: Layout) -> Result<Self, Problem> {
        let layout = Arc::new(layout);
        let allowance = pages.allowance()?;
        let page = Page::new(&layout);
        Ok(Self {
            pages,
            layout,
            page,
            allowance,
        })
    }

    /// Appends one row, after the page that it would not fit into.
    pub(super) fn row(
        &mut self,
        rowid: Option<i64>,
        cells: &[ValueRef<'_>],
    ) -> Result<(), Problem> {
        let bytes = self.layout.row_bytes(cells);
        while self.page.is_full() || self.page.bytes() + bytes > self.allowance {
            let expected = self.page.shape();
            let full = std::mem::replace(&mut self.page, Page::new(&self.layout));
            self.pages.send(full, Next::Row(bytes))?;
            self.allowance = self.pages.allowance()?;
            self.page = Page::like(&self.layout, &expected, self.allowance);
        }
        self.page.push(rowid, cells, bytes);
        Ok(())
    }

    fn end(self) -> Result<(), Problem> {
        self.pages.send(self.page, Next::End)
    }
}

impl Pages {
    fn allowance(&mut self) -> Result<u64, Problem> {
        Ok(self.allowed.blocking_recv().ok_or_else(stopped)?.0)
    }

    fn send(&self, page: Page, next: Next) -> Result<(), Problem> {
        let page = page.finish()?;
        Ok(self
            .reply
            .blocking_send(Reply { page, next })
            .map_err(|_| stopped())?)
    }
}

fn stopped() -> SourceError {
    SourceError::new(SourceErrorKind::Stopped, "the run wants no more rows")
}
