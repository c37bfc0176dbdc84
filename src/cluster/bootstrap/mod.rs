//! How processes come together. Each one listens on its own address and calls
//! those with smaller numbers, again and again until the time is over, so that
//! they may start in any order; process 0 names the run, and says when all have
//! all their links. Whoever does not belong is refused in a thread of its own,
//! so that a stray connection delays nobody.

mod handshake;
mod hello;
mod table;

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use uuid::Uuid;

use self::handshake::Trouble;
use self::hello::{Hello, Verdict};
use self::table::{TICK, Table};
use super::link::Session;
use super::{ClusterError, ClusterKey, Membership, sockets};

/// How long one handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How many handshakes may be under way; more connections are closed at once,
/// and those that belong here come again.
const MAX_HANDSHAKES: usize = 64;
/// How long a process waits before it calls again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// All links of a run, and its name.
pub(super) struct Formed {
    pub(super) run: Uuid,
    pub(super) sessions: Vec<Session>,
}

/// What the threads of one bootstrap share.
struct Joining {
    membership: Membership,
    key: ClusterKey,
    table: Table,
    handshakes: AtomicUsize,
}

/// Waits until all processes are linked with each other.
pub(super) fn form(membership: &Membership) -> Result<Formed, ClusterError> {
    let started = Instant::now();
    let listener = listen(membership)?;
    let joining = Arc::new(Joining {
        key: membership.key.clone().unwrap_or_else(ClusterKey::none),
        table: Table::new(membership.process, membership.processes()),
        membership: membership.clone(),
        handshakes: AtomicUsize::new(0),
    });
    let accepting = Arc::clone(&joining);
    let door = spawn("link-accept", move || accepting.accept(&listener))?;
    let calling = Arc::clone(&joining);
    let callers = (0..membership.process).try_for_each(|peer| {
        let joining = Arc::clone(&calling);
        spawn("link-call", move || joining.call(peer)).map(drop)
    });
    let formed = callers
        .map_err(ClusterError::from)
        .and_then(|()| joining.wait(started));
    joining.table.close();
    // It looks at the table every few milliseconds; then the port is free.
    let _ = door.join();
    formed
}

fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.stack_size(256 * 1024).spawn(work)
}

fn listen(membership: &Membership) -> Result<TcpListener, ClusterError> {
    let process = membership.process;
    let address = membership.address(process);
    let refuse = |why: String| ClusterError::Listen {
        process,
        address: address.clone(),
        why,
    };
    let found = address.to_socket_addrs();
    let mut why = "its name resolves to nothing".to_owned();
    for found in found.map_err(|e| refuse(e.to_string()))? {
        let listener = sockets::listen(found);
        match listener.and_then(|l| l.set_nonblocking(true).map(|()| l)) {
            Ok(listener) => return Ok(listener),
            Err(error) => why = error.to_string(),
        }
    }
    Err(refuse(why))
}

impl Joining {
    /// Lets in who connects, until the table is closed.
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.table.is_closed() {
            match listener.accept() {
                Ok((socket, from)) => {
                    if self.handshakes.fetch_add(1, Ordering::SeqCst) >= MAX_HANDSHAKES {
                        self.handshakes.fetch_sub(1, Ordering::SeqCst);
                        tracing::warn!("{from} is turned away: too many connect at once");
                        continue;
                    }
                    let joining = Arc::clone(self);
                    let met = spawn("link-meet", move || {
                        joining.meet(socket, &from.to_string());
                        joining.handshakes.fetch_sub(1, Ordering::SeqCst);
                    });
                    if let Err(error) = met {
                        self.handshakes.fetch_sub(1, Ordering::SeqCst);
                        tracing::warn!("{from} is turned away: {error}");
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nobody there, or one who has left again, or no descriptors.
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The handshake with one who has connected.
    fn meet(&self, socket: TcpStream, from: &str) {
        let judge = |hello: &Hello| self.judge(hello);
        match handshake::answer(socket, HANDSHAKE, &self.key, judge) {
            Ok((session, run)) => {
                let peer = session.peer;
                if !self.table.put(session, run) && !self.table.is_closed() {
                    tracing::warn!("{from} is refused: process {peer} is here already");
                }
            }
            Err(Trouble::Later) => {}
            Err(_) if self.table.is_closed() => {}
            Err(trouble) => tracing::warn!("{from} is refused: {trouble}"),
        }
    }

    fn judge(&self, hello: &Hello) -> Verdict {
        if let Some(why) = hello.objection(&self.membership) {
            return Verdict::Refused(why);
        }
        if self.table.has(hello.from) {
            return Verdict::Refused(format!("process {} is here already", hello.from));
        }
        let known = if self.membership.process == 0 {
            hello.run.is_none()
        } else {
            hello.run.is_some() && hello.run == self.table.run()
        };
        match self.table.run() {
            Some(run) if known => Verdict::Welcome { run, seed: 0 },
            _ => Verdict::Later,
        }
    }

    /// Calls a process until it is linked.
    fn call(&self, peer: usize) {
        let mut pause = FIRST_PAUSE;
        while !self.table.is_closed() {
            let run = if peer == 0 { None } else { self.table.run() };
            if self.table.has(peer) || (peer > 0 && run.is_none()) {
                std::thread::sleep(TICK);
                continue;
            }
            let met = self.dial(peer).and_then(|socket| {
                let hello = Hello::new(&self.membership, peer, run);
                handshake::ask(socket, HANDSHAKE, &self.key, &hello)
            });
            let address = self.membership.address(peer);
            let error = match met {
                Ok((session, run)) => {
                    pause = FIRST_PAUSE;
                    self.table.put(session, run);
                    continue;
                }
                Err(Trouble::Key) => ClusterError::WrongKey {
                    process: peer,
                    address,
                },
                Err(refused @ (Trouble::Refused(_) | Trouble::Protocol(_))) => {
                    let why = match refused {
                        Trouble::Refused(why) => why,
                        other => other.to_string(),
                    };
                    ClusterError::Refused {
                        process: peer,
                        address,
                        why,
                    }
                }
                Err(trouble) => {
                    self.table.remember(peer, trouble.to_string());
                    std::thread::sleep(pause);
                    pause = (pause * 3 / 2).min(LAST_PAUSE);
                    continue;
                }
            };
            self.table.fail(error);
            return;
        }
    }

    fn dial(&self, peer: usize) -> Result<TcpStream, Trouble> {
        let mut last = std::io::Error::other("its name resolves to nothing");
        for address in self.membership.address(peer).to_socket_addrs()? {
            match sockets::connect(address, HANDSHAKE / 2) {
                // A port that nobody listens on can be given to the caller
                // himself, on his own host.
                Ok(socket) if socket.local_addr()? == socket.peer_addr()? => {
                    last = ErrorKind::ConnectionRefused.into();
                }
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    /// Waits until all are linked, and everybody knows it.
    fn wait(&self, started: Instant) -> Result<Formed, ClusterError> {
        let process = self.membership.process;
        let (mut said_ready, mut may_go) = (false, false);
        loop {
            if let Some(error) = self.table.failure() {
                return Err(error);
            }
            for peer in self.table.sweep(said_ready) {
                // It may come again, but who has named the run names another.
                if peer == 0 {
                    return Err(ClusterError::Left {
                        process: peer,
                        address: self.membership.address(peer),
                    });
                }
                tracing::warn!("process {peer} has left; the run waits for it");
            }
            if process == 0 {
                if self.table.all_ready() {
                    return self.table.take(true).ok_or_else(|| self.missing(started));
                }
            } else if self.table.is_full() {
                if !said_ready {
                    said_ready = self.table.tell_leader();
                }
                may_go = may_go || self.table.leader_says_go();
                if may_go {
                    return self.table.take(false).ok_or_else(|| self.missing(started));
                }
            }
            if started.elapsed() >= self.membership.join_timeout {
                return Err(self.missing(started));
            }
            self.table.rest();
        }
    }

    fn missing(&self, started: Instant) -> ClusterError {
        let mut missing = self.table.missing(|peer| self.membership.address(peer));
        if missing.is_empty() {
            missing.push("process 0 still waits for others".to_owned());
        }
        ClusterError::Missing {
            waited: started.elapsed(),
            missing,
        }
    }
}

#[cfg(test)]
mod tests;
