//! Findings about the repository: identity, clusters, conditional create, clock.

use std::time::{Duration, SystemTime};

use futures::TryStreamExt;

use super::{Context, Finding};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::postgres::ControlFile;
use crate::repository::{self, Creation, KeyRing, Repository};
use crate::storage::ObjectPrefix;

const PATIENCE: Duration = Duration::from_secs(30);
const CLOCK_TOLERANCE: Duration = Duration::from_mins(1);

pub(super) async fn findings(context: &Context) -> Vec<Finding> {
    let repository = match open(context).await {
        Ok(repository) => repository,
        Err(error) => return vec![not_open(context, &error).await],
    };
    let detail = format!("{} at `{}`", repository.id(), repository.storage());
    let mut findings = vec![Finding::ok("repository", detail), encryption(&repository)];
    findings.extend(cluster(context, &repository));
    findings.push(round_trip(&repository).await);
    findings.push(clock(&repository).await);
    findings
}

async fn open(context: &Context) -> Result<Repository> {
    let site = context.site()?;
    let reason = "`walrs check` never makes a repository".to_owned();
    context.open(Deadline::after(PATIENCE), site.as_ref(), Creation::Refused(reason)).await
}

/// A new set-up has no repository before its first push, which makes one.
async fn not_open(context: &Context, error: &Error) -> Finding {
    if !matches!(is_untouched(context).await, Ok(true)) {
        return Finding::failed("repository", error);
    }
    Finding::warning(
        "repository",
        "none yet: the place is empty and can be read",
        "the first `walrs wal-push` or `walrs backup-push` makes it; for an encrypted one run \
         `walrs init --encrypt` before",
    )
}

/// Whether the first push may make a repository, as [`Opening`](crate::repository::Opening) decides it.
async fn is_untouched(context: &Context) -> Result<bool> {
    let encryption = &context.settings.encryption;
    let witness = context.site()?.map(|site| site.witness()).transpose()?.flatten();
    let expects_one = witness.is_some()
        || context.expected_repository().is_some()
        || KeyRing::read(encryption).await?.source().is_some();
    let storage = context.storage(Deadline::after(PATIENCE)).await?;
    let mut listing = storage.list(&ObjectPrefix::root(), None);
    Ok(!expects_one && listing.try_next().await?.is_none())
}

fn encryption(repository: &Repository) -> Finding {
    match repository.document().key_id {
        Some(_) => Finding::ok("encryption", "AES-256-GCM; the configured key opens it"),
        None => Finding::ok("encryption", "none: accidents are detected, tampering is not"),
    }
}

fn cluster(context: &Context, repository: &Repository) -> Option<Finding> {
    let pgdata = context.settings.pgdata.as_deref()?;
    // An unreadable control file is a finding of its own.
    let control = ControlFile::read(pgdata).ok()?;
    Some(match repository.authorise(control.system_identifier) {
        Ok(epoch) if epoch.segment_size != control.segment_size.bytes() => Finding::error(
            "cluster",
            ErrorKind::Refused,
            format!(
                "the segment size is {} bytes, the repository expects {}",
                control.segment_size.bytes(),
                epoch.segment_size
            ),
            "was the cluster changed by pg_resetwal? Give it a repository of its own",
        ),
        Ok(_) => Finding::ok("cluster", "this data directory belongs to the repository"),
        Err(error) => Finding::failed("cluster", &error),
    })
}

async fn round_trip(repository: &Repository) -> Finding {
    const NAME: &str = "conditional create";
    match repository::prove_writable(repository).await {
        Ok(repository::Overwrites::Refused) => {
            Finding::ok(NAME, "this host may write, and the store refuses to overwrite")
        }
        Ok(repository::Overwrites::Accepted) => Finding::warning(
            NAME,
            "the store ignores it: two writers could overwrite each other unseen",
            "use another store, or let one host alone write (`single_writer = true`)",
        ),
        Err(error) => Finding::failed(NAME, &error),
    }
}

async fn clock(repository: &Repository) -> Finding {
    const NAME: &str = "clock";
    let theirs = match repository.storage().now().await {
        Ok(now) => now,
        Err(error) => return Finding::failed(NAME, &error.into()),
    };
    let ours = SystemTime::now();
    let apart =
        theirs.duration_since(ours).or_else(|_| ours.duration_since(theirs)).unwrap_or_default();
    if apart <= CLOCK_TOLERANCE {
        return Finding::ok(NAME, "this host and the store agree");
    }
    let detail = format!("this host and the store are {} s apart", apart.as_secs());
    Finding::warning(NAME, detail, "set both by NTP: targets of restores are read by these clocks")
}
