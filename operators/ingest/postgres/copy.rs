//! The binary `COPY` stream of one split: frames, batches, permits.

use highwater::budget::Permit;
use highwater::dataset::TableName;
use highwater::source::{Emit, SourceError, SourceErrorKind};

use super::decode::{BatchShape, Finished, RowError, Rows};
use super::error::{ServerError, protocol};
use super::inbox::INBOX_BYTES;
use super::wire::Session;

/// No batch is made larger than this, whatever is asked for: with one row of at
/// most [`ROW_LIMIT`] on top, offsets stay within 32 bits.
pub(super) const BATCH_LIMIT: usize = 512 * 1024 * 1024;
/// Longest row that is read.
const ROW_LIMIT: usize = 512 * 1024 * 1024;
/// What begins a binary `COPY`, before flags and extension.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// The flag of a stream with object identifiers, of servers before 12.
const HAS_OIDS: u32 = 1 << 16;
/// One `COPY` on its way into batches.
pub(super) struct Copy<'a> {
    session: &'a mut Session,
    table: &'a TableName,
    rows: Rows,
    out: &'a mut dyn Emit,
    permit: Option<Permit>,
    source_bytes: u64,
    header_seen: bool,
    trailer_seen: bool,
    /// The buffer was grown for one long row.
    large: bool,
}

impl<'a> Copy<'a> {
    pub(super) fn new(
        session: &'a mut Session,
        table: &'a TableName,
        rows: Rows,
        out: &'a mut dyn Emit,
    ) -> Self {
        Self {
            session,
            table,
            rows,
            out,
            permit: None,
            source_bytes: 0,
            header_seen: false,
            trailer_seen: false,
            large: false,
        }
    }

    /// Copies what `select` selects, under `settings` (`SET LOCAL ...;`, may be
    /// empty) that end with it. The inner error is the server's refusal:
    /// the session is in a failed transaction, at rest. After the outer one it
    /// is in an unknown state.
    pub(super) async fn run(
        &mut self,
        settings: &str,
        select: &str,
    ) -> Result<Result<(), ServerError>, SourceError> {
        let copy = format!(
            "SAVEPOINT highwater_copy; {settings}COPY ({select}) TO STDOUT (FORMAT binary); \
             ROLLBACK TO SAVEPOINT highwater_copy; RELEASE SAVEPOINT highwater_copy"
        );
        self.session.send(&copy).await?;
        let mut refusal = None;
        loop {
            if self.permit.is_none() && refusal.is_none() {
                let bytes = self.out.batch_bytes();
                self.permit = Some(self.out.permit(bytes).await);
                self.rows.begin();
            }
            let step = self.drain(&mut refusal)?;
            if self.large && self.rows.len() > 0 {
                self.session.inbox().shrink();
                self.large = false;
                self.emit().await?;
            }
            match step {
                Step::More => match (self.receive().await, &refusal) {
                    // The server said why before it closed the connection.
                    (Err(_), Some(refusal)) => {
                        return Err(refusal
                            .clone()
                            .while_doing(&format!("reading {}", self.table)));
                    }
                    (received, _) => received?,
                },
                Step::Full => self.emit().await?,
                Step::Done => break,
            }
        }
        if let Some(refusal) = refusal {
            return Ok(Err(refusal));
        }
        if !(self.header_seen && self.trailer_seen) {
            return Err(protocol(self.session.place(), "a COPY without its end"));
        }
        self.emit().await?;
        Ok(Ok(()))
    }

    /// The shape of the last batch.
    pub(super) fn shape(&self) -> Option<BatchShape> {
        self.rows.shape()
    }

    /// Decodes what has been received, until the batch is full.
    fn drain(&mut self, refusal: &mut Option<ServerError>) -> Result<Step, SourceError> {
        while let Some(message) = self.session.next()? {
            let body = self.session.inbox().body(message.body);
            match message.tag {
                b'd' => {
                    self.source_bytes += body.len() as u64;
                    if let Err(error) = tuples(
                        body,
                        &mut self.rows,
                        &mut self.header_seen,
                        &mut self.trailer_seen,
                    ) {
                        return Err(self.damaged(error));
                    }
                    if self.rows.is_full() {
                        return Ok(Step::Full);
                    }
                }
                b'H' => self.session.pace().set(true),
                b'c' => self.session.pace().set(false),
                b'E' => {
                    *refusal = Some(ServerError::parse(body));
                    self.session.pace().set(false);
                }
                b'Z' => return Ok(Step::Done),
                // Completed commands, notices, parameters.
                _ => {}
            }
        }
        Ok(Step::More)
    }

    async fn receive(&mut self) -> Result<(), SourceError> {
        if let Some(total) = self.session.inbox().oversized() {
            return self.receive_large(total).await;
        }
        self.session.fill().await
    }

    /// Receives one row that is larger than the buffer. It is held twice for a
    /// moment, received and decoded, and is paid for twice; the permit is asked
    /// for while nothing else is held, so that two such readers cannot wait for
    /// each other.
    async fn receive_large(&mut self, total: usize) -> Result<(), SourceError> {
        if total > ROW_LIMIT {
            return Err(self.too_long(total, &format!("more than the limit of {ROW_LIMIT} bytes")));
        }
        self.emit().await?;
        self.permit = None;
        let bytes = 2 * total as u64 + self.out.batch_bytes();
        let permit = self.out.permit(bytes).await;
        // A free permit pays for nothing and limits nothing.
        if permit.bytes() != 0 && permit.bytes() < bytes {
            return Err(self.too_long(
                total,
                "more than twice that does not fit into the memory budget; raise --memory",
            ));
        }
        self.permit = Some(permit);
        self.session.inbox().grow(total);
        self.large = true;
        Ok(())
    }

    /// Hands over the rows so far, the bad ones first.
    async fn emit(&mut self) -> Result<(), SourceError> {
        if self.rows.len() == 0 {
            return Ok(());
        }
        let Finished { batch, bad } = self.rows.finish().map_err(|error| {
            SourceError::new(
                SourceErrorKind::Failed,
                format!("a batch of {} cannot be built: {error}", self.table),
            )
            .caused_by(error)
        })?;
        for row in bad {
            self.out.quarantine(row).await?;
        }
        let mut permit = self.permit.take().unwrap_or_else(Permit::free);
        if batch.num_rows() == 0 {
            return Ok(());
        }
        permit.shrink_to(batch.get_array_memory_size() as u64);
        self.out
            .batch(batch, permit, std::mem::take(&mut self.source_bytes))
            .await
    }

    #[cold]
    fn damaged(&mut self, error: RowError) -> SourceError {
        let column = error
            .column
            .map_or_else(String::new, |column| format!(", column {column}"));
        SourceError::new(
            SourceErrorKind::Failed,
            format!(
                "{}{column}: {}. Did the table's definition change during the run? Run again",
                self.table, error.what
            ),
        )
    }

    #[cold]
    fn too_long(&mut self, total: usize, why: &str) -> SourceError {
        let column = self.rows.reaches(self.session.inbox().partial());
        SourceError::new(
            SourceErrorKind::Failed,
            format!(
                "a row of {} has {total} bytes (column {column} or one after it): {why}, or leave the column out by exclude_columns",
                self.table
            ),
        )
    }
}

/// What [`Copy::drain`] ended with.
enum Step {
    /// Everything received is decoded.
    More,
    /// The batch has its size.
    Full,
    /// The server is done with the query.
    Done,
}

/// Takes the tuples of one message apart. Servers send one tuple a message, the
/// first with the stream's header before it.
#[inline]
fn tuples(
    mut body: &[u8],
    rows: &mut Rows,
    header_seen: &mut bool,
    trailer_seen: &mut bool,
) -> Result<(), RowError> {
    if !*header_seen {
        body = header(body)?;
        *header_seen = true;
    }
    while !body.is_empty() {
        match rows.push(body)? {
            Some(rest) => body = rest,
            None => {
                *trailer_seen = true;
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cold]
fn header(body: &[u8]) -> Result<&[u8], RowError> {
    let wrong = |what: &str| RowError {
        column: None,
        what: what.to_owned(),
    };
    let body = body
        .strip_prefix(SIGNATURE)
        .ok_or_else(|| wrong("not a binary COPY stream"))?;
    let Some((flags, body)) = body.split_first_chunk::<4>() else {
        return Err(wrong("the header of the COPY stream ends early"));
    };
    let flags = u32::from_be_bytes(*flags);
    // The upper half marks what a reader must understand.
    if flags & HAS_OIDS != 0 || flags >> 16 != 0 {
        return Err(wrong("the COPY stream has features that are not known"));
    }
    let Some((length, body)) = body.split_first_chunk::<4>() else {
        return Err(wrong("the header of the COPY stream ends early"));
    };
    body.get(u32::from_be_bytes(*length) as usize..)
        .ok_or_else(|| wrong("the header of the COPY stream ends early"))
}

/// The default size of the receive buffer is far below the longest row.
const _: () = assert!(INBOX_BYTES < ROW_LIMIT);
