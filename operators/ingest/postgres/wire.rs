//! A session after its login: simple queries with text results, and the start
//! of a `COPY`, read from one buffer.

use std::io;
use std::sync::Arc;

use highwater::source::{SourceError, SourceErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::Place;
use super::error::{ServerError, lost, protocol};
use super::inbox::{Inbox, Message};
use super::lent::Duplex;
use super::paced::Pace;

/// Largest message of a query's result (not of a `COPY`).
const RESULT_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// A session that is logged in. Dropping it closes the connection, and the
/// server ends whatever it was doing.
pub(super) struct Session {
    stream: Box<dyn Duplex>,
    inbox: Inbox,
    pace: Pace,
    place: Arc<Place>,
}

/// The rows of the statements of one query, as text.
pub(super) struct Results {
    sets: Vec<Vec<Vec<Option<String>>>>,
}

impl Results {
    /// The rows of the `set`th statement that returned any description.
    pub(super) fn rows(&self, set: usize) -> &[Vec<Option<String>>] {
        self.sets.get(set).map_or(&[], Vec::as_slice)
    }

    /// One value, if it is there and not NULL.
    pub(super) fn value(&self, set: usize, row: usize, column: usize) -> Option<&str> {
        self.rows(set).get(row)?.get(column)?.as_deref()
    }

    /// One value that must be there.
    pub(super) fn text(&self, set: usize, row: usize, column: usize) -> Result<&str, SourceError> {
        self.value(set, row, column).ok_or_else(|| {
            SourceError::new(
                SourceErrorKind::Failed,
                "the server left a value out of a catalog query",
            )
        })
    }
}

impl Session {
    pub(super) fn new(stream: Box<dyn Duplex>, pace: Pace, place: Place) -> Self {
        Self {
            stream,
            inbox: Inbox::new(),
            pace,
            place: place.shared(),
        }
    }

    /// Where this session is.
    pub(super) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Turned on while a `COPY` flows.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// What has been received.
    pub(super) fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// Runs one or more statements and collects their rows.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Results, SourceError> {
        self.try_query(sql)
            .await?
            .map_err(|error| error.while_doing(&format!("a catalog query at {}", self.place)))
    }

    /// The same, with the server's refusal as a value: the session goes on.
    pub(super) async fn try_query(
        &mut self,
        sql: &str,
    ) -> Result<Result<Results, ServerError>, SourceError> {
        self.send(sql).await?;
        let mut results = Results { sets: Vec::new() };
        let mut refusal = None;
        loop {
            let Message { tag, body } = match (self.receive().await, &refusal) {
                // The server said why before it closed the connection.
                (Err(_), Some(refusal)) => {
                    let refusal: &ServerError = refusal;
                    return Err(refusal
                        .clone()
                        .while_doing(&format!("a query at {}", self.place)));
                }
                (received, _) => received?,
            };
            let body = self.inbox.body(body);
            match tag {
                b'T' => results.sets.push(Vec::new()),
                b'D' => {
                    let row =
                        text_row(body).ok_or_else(|| protocol(&self.place, "a damaged row"))?;
                    if let Some(rows) = results.sets.last_mut() {
                        rows.push(row);
                    }
                }
                b'E' => refusal = Some(ServerError::parse(body)),
                b'Z' => return Ok(refusal.map_or(Ok(results), Err)),
                _ => {}
            }
        }
    }

    /// Sends a simple query; its answer is read by the caller.
    pub(super) async fn send(&mut self, sql: &str) -> Result<(), SourceError> {
        let length = u32::try_from(sql.len() + 5)
            .map_err(|_| SourceError::new(SourceErrorKind::Usage, "a query of more than 4 GiB"))?;
        let mut message = Vec::with_capacity(sql.len() + 6);
        message.push(b'Q');
        message.extend(length.to_be_bytes());
        message.extend(sql.as_bytes());
        message.push(0);
        let sent = async {
            self.stream.write_all(&message).await?;
            self.stream.flush().await
        };
        sent.await
            .map_err(|error| lost(&self.place, "a query was sent", error))
    }

    /// Sends one message.
    pub(super) async fn put(&mut self, tag: u8, body: &[u8]) -> Result<(), SourceError> {
        let length = u32::try_from(body.len() + 4).ok();
        let length = length.filter(|&length| length <= i32::MAX as u32);
        let length = length.ok_or_else(|| {
            SourceError::new(SourceErrorKind::Failed, "a message of more than 2 GiB")
        })?;
        let sent = async {
            self.stream.write_all(&[tag]).await?;
            self.stream.write_all(&length.to_be_bytes()).await?;
            self.stream.write_all(body).await?;
            self.stream.flush().await
        };
        sent.await
            .map_err(|error| lost(&self.place, "rows were sent", error))
    }

    /// The next message of a query's result.
    pub(super) async fn receive(&mut self) -> Result<Message, SourceError> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(message);
            }
            if let Some(total) = self.inbox.oversized() {
                if total > RESULT_MESSAGE_BYTES {
                    return Err(protocol(
                        &self.place,
                        format_args!("a message of {total} bytes"),
                    ));
                }
                self.inbox.grow(total);
            }
            self.fill().await?;
        }
    }

    /// The next message among those received.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Message>, SourceError> {
        self.inbox
            .next()
            .map_err(|length| protocol(&self.place, format_args!("a message of length {length}")))
    }

    /// Waits for more bytes.
    pub(super) async fn fill(&mut self) -> Result<(), SourceError> {
        let received = self.stream.read(self.inbox.space()).await;
        let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it");
        match received.and_then(|count| if count == 0 { Err(ended()) } else { Ok(count) }) {
            Ok(count) => {
                self.inbox.received(count);
                Ok(())
            }
            Err(error) => Err(lost(&self.place, "an answer was awaited", error)),
        }
    }
}

/// The fields of a `DataRow` in text format.
fn text_row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            continue;
        };
        let (field, after) = rest.split_at_checked(length)?;
        rest = after;
        row.push(Some(String::from_utf8_lossy(field).into_owned()));
    }
    Some(row)
}
