//! Which processes a run has, and what becomes of this one when another is lost.

use std::io::Write;
use std::sync::Arc;

use bytesize::ByteSize;

use super::cli::{ClusterArgs, OutputArgs};
use super::{Exit, Failure};
use crate::cluster::{ClusterError, ClusterKey, Lost, Membership};
use crate::run::Config;
use crate::telemetry::Progress;

/// The processes of a run, where there are several.
#[derive(Debug, Clone)]
pub(super) struct Members {
    args: ClusterArgs,
    job: String,
    json: bool,
}

impl Members {
    /// As the flags have them; `None` where this process is the only one. All
    /// processes must run the same `pipeline` on the same source and lake.
    pub(super) fn of(
        args: &ClusterArgs,
        pipeline: &str,
        config: &Config,
        output: OutputArgs,
    ) -> Result<Option<Self>, Failure> {
        let together =
            args.hosts.is_some() || args.processes.is_some_and(|processes| processes > 1);
        if !together {
            if args.process.is_some_and(|process| process > 0) {
                return Err(Failure::usage("--process without other processes")
                    .hint("say where they are: --hosts FILE, or --processes N on this host"));
            }
            return Ok(None);
        }
        let source = config.source.to_string();
        let version = env!("CARGO_PKG_VERSION");
        let digest = xxhash_rust::xxh3::xxh3_64(source.as_bytes());
        let lake: String = config.lake.chars().take(512).collect();
        Ok(Some(Self {
            args: args.clone(),
            job: format!("{pipeline} {version} {digest:016x} {lake}"),
            json: output.json,
        }))
    }

    /// With so many worker threads and so much memory in each process: what one
    /// of them plans for all must be there.
    pub(super) fn membership(
        &self,
        workers: usize,
        memory: ByteSize,
    ) -> Result<Membership, Failure> {
        let job = format!("{}, {memory} of memory", self.job);
        let ClusterArgs {
            process,
            processes,
            base_port,
            hosts,
            cluster_key_file,
            cluster_plaintext,
            join_timeout,
        } = &self.args;
        let process = process.unwrap_or(0);
        let key = cluster_key_file.as_deref().map(ClusterKey::from_file);
        let key = key.transpose()?;
        let mut membership = match hosts {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    Failure::usage(format!("cannot read {}", file.display())).caused_by(&error)
                })?;
                Membership::from_hosts_file(&text, process, workers, job, key)?
            }
            None => {
                let processes = processes.unwrap_or(1);
                let encrypted = key.is_some();
                let mut membership =
                    Membership::loopback(process, processes, *base_port, workers, job);
                membership.key = key;
                membership.plaintext = !encrypted;
                membership
            }
        };
        membership.plaintext |= *cluster_plaintext;
        membership.join_timeout = *join_timeout;
        Ok(membership)
    }

    /// Ends this process when another one is lost: what is committed stays, and
    /// nothing else can be known to be whole.
    pub(super) fn when_lost(&self, progress: Progress) -> Arc<dyn Fn(&Lost) + Send + Sync> {
        let json = self.json;
        Arc::new(move |lost| abandon(lost.to_string(), &progress, json))
    }

    /// The same where another process says itself that it cannot go on.
    pub(super) fn when_failed(&self, progress: Progress) -> impl Fn(usize, &str) + Send + 'static {
        let json = self.json;
        move |process, reason| abandon(format!("process {process}: {reason}"), &progress, json)
    }
}

/// Says why the run is over and ends the process, which is safe at any instant.
fn abandon(what: String, progress: &Progress, json: bool) -> ! {
    progress.finish();
    let failure = Failure::retry(what)
        .because("a run goes on with all of its processes or with none; what is committed stays")
        .hint("run again: it continues from the last commit (`cluster` does so by itself)");
    let text = if json {
        format!("{}\n", failure.to_json())
    } else {
        failure.render()
    };
    let _ = std::io::stderr().write_all(text.as_bytes());
    std::process::exit(i32::from(Exit::Retry.code()));
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        match &error {
            ClusterError::Membership(_) | ClusterError::Key { .. } => {
                Self::usage(error.to_string())
            }
            ClusterError::WrongKey { .. } => Self::usage(error.to_string())
                .hint("give all processes the same --cluster-key-file"),
            ClusterError::Refused { .. } => Self::usage(error.to_string())
                .hint("give all processes the same configuration, version, --workers and --memory"),
            ClusterError::Missing { .. } => Self::retry(error.to_string())
                .hint("start the missing processes, or wait longer: --join-timeout"),
            ClusterError::Left { .. } | ClusterError::Lost(_) => Self::retry(error.to_string()),
            _ => Self::failed(error.to_string()),
        }
    }
}
