//! Who belongs to a run and how the processes reach each other. What can be
//! known to be wrong without a network is refused here.

use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use super::{ClusterError, ClusterKey};

/// More is a mistake, and each process costs every other one a connection.
const MAX_PROCESSES: usize = 1024;
/// The job crosses in one small message.
const MAX_JOB_BYTES: usize = 1024;

/// Who belongs to the run and how they reach each other.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Number of this process, from 0. Process 0 leads.
    pub process: usize,
    /// `host:port` of each process, by number.
    pub addresses: Vec<String>,
    /// Worker threads of each process; equal everywhere.
    pub workers: usize,
    /// What is run; a process that would run something else is refused.
    pub job: String,
    /// What the processes know each other by. Without it all addresses must be
    /// of this host (loopback).
    pub key: Option<ClusterKey>,
    /// Authenticated, but not encrypted: for a network that is trusted. Frames
    /// then carry a checksum with a secret seed, which tells damage and strays,
    /// but does not keep out somebody who can change packets on their way.
    pub plaintext: bool,
    /// Frames are compressed where that pays. Without it none is, for benches
    /// that show what finding out costs.
    pub compress: bool,
    /// How long to wait for the others.
    pub join_timeout: Duration,
    /// A peer that is not heard of for so long is lost.
    pub silence: Duration,
    /// For the control arm of a test.
    #[cfg(test)]
    pub(super) left_out: Option<Safety>,
}

/// What a control arm leaves out, to show that the test of it can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Safety {
    /// Contents of frames are checked before they are believed.
    Checksums,
    /// A process with nothing to say says that it lives.
    Heartbeats,
    /// A peer that says nothing for long is lost.
    Patience,
}

impl Membership {
    /// How long a process waits for the others unless told otherwise.
    pub const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
    /// How long a peer may be silent unless told otherwise.
    pub const SILENCE: Duration = Duration::from_secs(10);

    /// Processes of this host, on the ports from `base_port` on, without a key.
    #[must_use]
    pub fn loopback(
        process: usize,
        processes: usize,
        base_port: u16,
        workers: usize,
        job: impl Into<String>,
    ) -> Self {
        let address = |index: usize| format!("127.0.0.1:{}", usize::from(base_port) + index);
        Self {
            process,
            addresses: (0..processes).map(address).collect(),
            workers,
            job: job.into(),
            key: None,
            plaintext: true,
            compress: true,
            join_timeout: Self::JOIN_TIMEOUT,
            silence: Self::SILENCE,
            #[cfg(test)]
            left_out: None,
        }
    }

    /// The processes of a hosts file: one `host:port` a line, by number; `#`
    /// starts a comment. Encrypted if there is a key.
    ///
    /// # Errors
    /// As [`Membership::check`].
    pub fn from_hosts_file(
        text: &str,
        process: usize,
        workers: usize,
        job: impl Into<String>,
        key: Option<ClusterKey>,
    ) -> Result<Self, ClusterError> {
        let line = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
        let membership = Self {
            process,
            addresses: text.lines().map(line).filter(|l| !l.is_empty()).collect(),
            workers,
            job: job.into(),
            plaintext: key.is_none(),
            key,
            compress: true,
            join_timeout: Self::JOIN_TIMEOUT,
            silence: Self::SILENCE,
            #[cfg(test)]
            left_out: None,
        };
        membership.check()?;
        Ok(membership)
    }

    /// How many processes there are.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.addresses.len()
    }

    /// Looks for what cannot be right. [`super::Crew::join`] does so first.
    ///
    /// # Errors
    /// No process, or no worker; this process is not on the list; an address
    /// twice, or one that is no `host:port`; addresses of other hosts without a
    /// key.
    pub fn check(&self) -> Result<(), ClusterError> {
        let refuse = |why: String| Err(ClusterError::Membership(why));
        let processes = self.addresses.len();
        if processes == 0 || processes > MAX_PROCESSES {
            return refuse(format!(
                "a run has 1 to {MAX_PROCESSES} processes, not {processes}"
            ));
        }
        if self.process >= processes {
            return refuse(format!(
                "there is no process {} among {processes}: they are numbered from 0",
                self.process
            ));
        }
        if self.workers == 0 {
            return refuse("each process needs at least one worker".to_owned());
        }
        if self.job.len() > MAX_JOB_BYTES {
            return refuse(format!("the job's name exceeds {MAX_JOB_BYTES} bytes"));
        }
        if self.silence < Duration::from_millis(100) {
            return refuse("a peer may be silent for 100 ms at least".to_owned());
        }
        for (process, address) in self.addresses.iter().enumerate() {
            if !is_host_and_port(address) {
                return refuse(format!(
                    "the address of process {process}, `{address}`, is not `host:port`"
                ));
            }
            if self.addresses.iter().take(process).any(|a| a == address) {
                return refuse(format!("the address {address} is given twice"));
            }
            if self.key.is_none() && !is_loopback(address) {
                return refuse(format!(
                    "process {process} at {address} is not on this host (loopback): \
                     processes of several hosts need a cluster key file"
                ));
            }
        }
        Ok(())
    }

    /// The address of a process.
    pub(super) fn address(&self, process: usize) -> String {
        let address = self.addresses.get(process);
        address.map_or_else(|| "an unknown address".to_owned(), Clone::clone)
    }

    /// Whether what crosses is encrypted: without a key there is nobody to
    /// hide it from.
    pub(super) fn encrypted(&self) -> bool {
        self.key.is_some() && !self.plaintext
    }
}

impl Membership {
    /// Always, but in a control arm.
    #[cfg(test)]
    pub(super) fn keeps(&self, safety: Safety) -> bool {
        self.left_out != Some(safety)
    }

    /// Always, but in a control arm.
    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    pub(super) fn keeps(&self, _: Safety) -> bool {
        true
    }
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.starts_with('[') && host.ends_with(']');
        !host.is_empty()
            && (bare || !host.contains(':'))
            && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

/// Whether an address is of this host only, whatever its name resolves to.
fn is_loopback(address: &str) -> bool {
    let Some((host, _)) = address.rsplit_once(':') else {
        return false;
    };
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return ip.is_loopback();
    }
    let Ok(mut found) = address.to_socket_addrs() else {
        return false;
    };
    let first = found.next();
    first.is_some_and(|a| a.ip().is_loopback()) && found.all(|a| a.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn refused(change: impl FnOnce(&mut Membership)) -> String {
        let mut membership = Membership::loopback(0, 3, 2101, 2, "job");
        membership.check().unwrap();
        change(&mut membership);
        membership.check().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        assert!(refused(|m| m.process = 3).contains("no process 3 among 3"));
        assert!(refused(|m| m.workers = 0).contains("at least one worker"));
        assert!(refused(|m| m.addresses.clear()).contains("1 to 1024"));
        assert!(refused(|m| m.addresses[1] = "127.0.0.1:2101".into()).contains("twice"));
        assert!(refused(|m| m.silence = Duration::ZERO).contains("100 ms"));
        assert!(refused(|m| m.job = "x".repeat(2000)).contains("1024 bytes"));
        for address in ["here", ":1", "host:", "host:0", "host:70000", "::1:5"] {
            let why = refused(|m| m.addresses[1] = address.to_owned());
            assert!(why.contains("is not `host:port`"), "{why}");
        }
        for address in ["10.0.0.1:2101", "0.0.0.0:2101", "[2001:db8::1]:2101"] {
            let why = refused(|m| m.addresses[2] = address.to_owned());
            assert!(why.contains("need a cluster key file"), "{why}");
        }
    }

    #[test]
    fn a_hosts_file_has_an_address_a_line() {
        let text = "# the run\n localhost:2101\n\n[::1]:2102 # second\n127.0.0.1:2103\n";
        let membership = Membership::from_hosts_file(text, 2, 1, "job", None).unwrap();
        assert_eq!(
            membership.addresses,
            ["localhost:2101", "[::1]:2102", "127.0.0.1:2103"]
        );
        assert!(!membership.encrypted());
        let key = ClusterKey::from_secret(&[7; 32]);
        let far = "10.0.0.1:1\n10.0.0.2:1";
        assert!(Membership::from_hosts_file(far, 0, 1, "job", None).is_err());
        let membership = Membership::from_hosts_file(far, 1, 1, "job", key).unwrap();
        assert!(membership.encrypted());
    }
}
