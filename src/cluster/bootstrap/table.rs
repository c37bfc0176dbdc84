//! Who has come so far: the one thing that the threads of a bootstrap share.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::handshake::{self, Control};
use super::{Formed, Session};
use crate::cluster::{ClusterError, sockets};

/// How often those who wait look around.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Who has come so far.
pub(super) struct Table {
    process: usize,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    run: Option<Uuid>,
    seats: Vec<Seat>,
    failure: Option<ClusterError>,
    closed: bool,
}

#[derive(Default)]
struct Seat {
    session: Option<Session>,
    /// To process 0: it has all its links.
    ready: bool,
    /// Why it was not reached when it was called last.
    last: Option<String>,
}

impl Table {
    /// Process 0 names the run.
    pub(super) fn new(process: usize, processes: usize) -> Self {
        Self {
            process,
            inner: Mutex::new(Inner {
                run: (process == 0).then(Uuid::now_v7),
                seats: (0..processes).map(|_| Seat::default()).collect(),
                failure: None,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run's name, once process 0 has told it.
    pub(super) fn run(&self) -> Option<Uuid> {
        self.lock().run
    }

    /// Whether a process has come and not left again.
    pub(super) fn has(&self, peer: usize) -> bool {
        self.lock().seats.get(peer).is_some_and(Seat::is_taken)
    }

    /// Gives a process its seat. Says whether it was free.
    pub(super) fn put(&self, session: Session, run: Uuid) -> bool {
        let mut inner = self.lock();
        if inner.closed || inner.run.is_some_and(|known| known != run) {
            return false;
        }
        inner.run = Some(run);
        let Some(seat) = inner.seats.get_mut(session.peer) else {
            return false;
        };
        if seat.is_taken() {
            return false;
        }
        seat.ready = false;
        seat.session = Some(session);
        self.changed.notify_all();
        true
    }

    /// Why a process could not be reached.
    pub(super) fn remember(&self, peer: usize, why: String) {
        if let Some(seat) = self.lock().seats.get_mut(peer) {
            seat.last = Some(why);
        }
    }

    /// What ends the bootstrap.
    pub(super) fn fail(&self, error: ClusterError) {
        self.lock().failure.get_or_insert(error);
        self.changed.notify_all();
    }

    pub(super) fn failure(&self) -> Option<ClusterError> {
        self.lock().failure.take()
    }

    /// Nobody is let in any more, and who has come and was not taken is left.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.seats.fill_with(Seat::default);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits a moment, or until somebody comes.
    pub(super) fn rest(&self) {
        // What has happened is looked at anyway.
        let _ = self.changed.wait_timeout(self.lock(), TICK);
    }

    /// Frees the seats of those who have left, and says who they are. Who has said
    /// that he is ready looks at process 0 alone: it may have told everybody to go,
    /// and one who went and died is lost like any other. His seat is free for him
    /// all the same, should he come again.
    pub(super) fn sweep(&self, ready: bool) -> Vec<usize> {
        let mut left = Vec::new();
        for (peer, seat) in self.lock().seats.iter_mut().enumerate() {
            let looked_at = peer == 0 || !ready;
            if looked_at && seat.session.is_some() && !seat.is_taken() {
                *seat = Seat::default();
                left.push(peer);
            }
        }
        left
    }

    /// Whether everybody has come.
    pub(super) fn is_full(&self) -> bool {
        let inner = self.lock();
        let mut others = inner.seats.iter().enumerate();
        others.all(|(peer, seat)| peer == self.process || seat.session.is_some())
    }

    /// For process 0: whether everybody has come, and said that he is ready.
    pub(super) fn all_ready(&self) -> bool {
        let mut all = true;
        for (peer, seat) in self.lock().seats.iter_mut().enumerate() {
            if peer == self.process {
                continue;
            }
            if let Some(session) = &mut seat.session
                && !seat.ready
            {
                match handshake::has_told(session, Control::Ready) {
                    Ok(ready) => seat.ready = ready,
                    Err(trouble) => {
                        tracing::warn!("process {peer} is turned away: {trouble}");
                        *seat = Seat::default();
                    }
                }
            }
            all &= seat.ready;
        }
        all
    }

    /// Tells process 0 that all links are there. Says whether it could be told.
    pub(super) fn tell_leader(&self) -> bool {
        let mut inner = self.lock();
        let leader = inner.seats.first_mut().and_then(|s| s.session.as_mut());
        leader.is_some_and(|session| handshake::tell(session, Control::Ready).is_ok())
    }

    /// Whether process 0 says that everybody is ready.
    pub(super) fn leader_says_go(&self) -> bool {
        let mut inner = self.lock();
        let leader = inner.seats.first_mut().and_then(|s| s.session.as_mut());
        // One who has left is found by the next sweep.
        leader
            .is_some_and(|session| handshake::has_told(session, Control::Go).is_ok_and(|told| told))
    }

    /// Closes the table and takes all links, if they are there; process 0 tells
    /// everybody to go.
    pub(super) fn take(&self, tell: bool) -> Option<Formed> {
        let mut inner = self.lock();
        inner.closed = true;
        let run = inner.run?;
        let process = self.process;
        let mut sessions = Vec::new();
        for (peer, seat) in inner.seats.iter_mut().enumerate() {
            if peer != process {
                let mut session = seat.session.take()?;
                if tell {
                    // One who has left in this moment is lost like any other.
                    let _ = handshake::tell(&mut session, Control::Go);
                }
                sessions.push(session);
            }
        }
        Some(Formed { run, sessions })
    }

    /// Who has not come, as text.
    pub(super) fn missing(&self, address: impl Fn(usize) -> String) -> Vec<String> {
        let inner = self.lock();
        let seats = inner.seats.iter().enumerate();
        seats
            .filter(|(peer, seat)| *peer != self.process && seat.session.is_none())
            .map(|(peer, seat)| {
                let why = seat.last.as_ref();
                let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
                format!("process {peer} at {} did not join{why}", address(peer))
            })
            .collect()
    }
}

impl Seat {
    fn is_taken(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| !sockets::is_gone(&session.socket))
    }
}
