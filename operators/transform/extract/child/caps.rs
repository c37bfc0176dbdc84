//! What the child takes from itself before it reads anything: memory, time, files,
//! core dumps, the network, other programs. All of it is inherited by what it
//! starts and cannot be taken back.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::super::{Limits, PdfBackend};

/// What holds in this process from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confined {
    /// Whether the kernel refuses the network and other programs.
    pub network_refused: bool,
}

impl Confined {
    /// What the user should know.
    pub(super) fn warning(self) -> Option<String> {
        (!self.network_refused).then(|| {
            "documents are read in processes with caps, but this system has no way for them to \
             give up the network"
                .to_owned()
        })
    }
}

/// Confines this process for good: caps of `limits`, no files, no core dumps, no
/// network; no other programs, unless `pdf` is one.
///
/// # Errors
/// What the system refused, for the user.
pub fn confine(limits: &Limits, pdf: PdfBackend) -> Result<Confined, String> {
    let cap = |resource, most| {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).map_err(|error| format!("cannot cap {resource:?}: {error}"))
    };
    // Not RLIMIT_AS: that counts the program itself and what allocators reserve.
    cap(Resource::Data, limits.memory_bytes)?;
    cap(Resource::Core, 0)?;
    cap(Resource::Fsize, 0)?;
    allow_time(limits).map_err(|error| format!("cannot cap processor time: {error}"))?;
    refuse_calls(pdf)
}

/// Allows so much processor time from now on: for a child that serves one document
/// after the other.
pub(super) fn allow_time(limits: &Limits) -> io::Result<()> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
    let maximum = getrlimit(Resource::Cpu).maximum;
    // The parent's clock ends it first; this is for when there is no parent.
    let wanted = used.saturating_add(limits.time.as_secs()).saturating_add(2);
    let current = Some(maximum.map_or(wanted, |maximum| wanted.min(maximum)));
    Ok(setrlimit(Resource::Cpu, Rlimit { current, maximum })?)
}

#[cfg(target_os = "linux")]
fn refuse_calls(pdf: PdfBackend) -> Result<Confined, String> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

    let mut calls = REFUSED.to_vec();
    if pdf != PdfBackend::Pdftotext {
        calls.extend(PROGRAMS);
    }
    let rules = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let refused = || -> Result<(), seccompiler::Error> {
        let arch: TargetArch = std::env::consts::ARCH.try_into()?;
        let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, eperm, arch)?;
        let program: BpfProgram = filter.try_into()?;
        // This also says PR_SET_NO_NEW_PRIVS.
        apply_filter(&program)
    };
    refused().map_err(|error| format!("cannot refuse the network: {error}"))?;
    Ok(Confined {
        network_refused: true,
    })
}

#[cfg(not(target_os = "linux"))]
fn refuse_calls(_pdf: PdfBackend) -> Result<Confined, String> {
    Ok(Confined {
        network_refused: false,
    })
}

/// Calls that reach out of the process. `io_uring` is among them because it makes
/// calls that no filter sees.
#[cfg(target_os = "linux")]
const REFUSED: [i64; 17] = [
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_mount,
    libc::SYS_unshare,
    libc::SYS_setns,
];

/// Calls that start other programs.
#[cfg(target_os = "linux")]
const PROGRAMS: [i64; 2] = [libc::SYS_execve, libc::SYS_execveat];
