//! `walrs init`: makes a repository on purpose, or adds a cluster to one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Context, Outcome, output};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::postgres::ControlFile;
use crate::repository::{
    self, Added, FirstCluster, NewRepository, Repository, RepositoryDocument, Site, Witness,
};
use crate::storage::{FsStorage, RepositoryUrl};

/// Arguments of `walrs init`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Encrypt everything; only possible when the repository is made
    #[arg(long, requires = "new_key_file", conflicts_with = "add_cluster")]
    encrypt: bool,
    /// Where to create the key file (0600; refused if it exists)
    #[arg(long, value_name = "FILE", requires = "encrypt")]
    new_key_file: Option<PathBuf>,
    /// Add this cluster to an existing repository (also after a major upgrade)
    #[arg(long)]
    add_cluster: bool,
}

/// Makes the repository, or adds the cluster, and leaves the data directory's witness.
pub(super) async fn run(args: Args, context: &Context) -> Result<Outcome> {
    let pgdata = context.pgdata()?;
    let control = ControlFile::read(pgdata)?;
    let cluster = FirstCluster {
        system_identifier: control.system_identifier,
        segment_size: control.segment_size,
    };
    let site = context.site_of(pgdata)?;
    let document = match args.add_cluster {
        true => add(context, cluster).await?,
        false => make(&args, context, cluster).await?,
    };
    leave_witness(context, &site, &document).await?;
    Ok(Outcome::Done)
}

async fn make(args: &Args, context: &Context, cluster: FirstCluster) -> Result<RepositoryDocument> {
    refuse_passphrase(context)?;
    create_directory(context).await?;
    warn_of_another_owner(context);
    let storage = context.storage(Deadline::never()).await?;
    if !args.encrypt && repository::exists(&*storage).await? {
        return adopt(context, cluster).await;
    }
    let new = NewRepository { cluster, new_key_file: args.new_key_file.as_deref() };
    let document = repository::initialise(&storage, &context.settings, &new).await?;
    let id = document.repository_id;
    output::note(&format!(
        "made repository {id} at {storage} for cluster {}",
        cluster.system_identifier
    ));
    if let Some(path) = &args.new_key_file {
        output::note(&format!(
            "the key file is {0}; copy it to another place now:\n\
             without it nothing can be restored\n\
             next: set encryption.key_file = \"{0}\"",
            std::path::absolute(path).unwrap_or_else(|_| path.clone()).display()
        ));
    }
    if !document.conditional_create {
        output::note(
            "warning: this store ignores conditional creation; only one host may ever write",
        );
    }
    Ok(document)
}

/// A repository that is there already is taken into use, if this cluster belongs to it.
async fn adopt(context: &Context, cluster: FirstCluster) -> Result<RepositoryDocument> {
    let repository = open_without_witness(context).await?;
    repository.authorise(cluster.system_identifier)?;
    let (id, storage) = (repository.id(), repository.storage());
    output::note(&format!(
        "repository {id} exists at {storage}; this data directory uses it from now on"
    ));
    Ok(repository.document().clone())
}

async fn open_without_witness(context: &Context) -> Result<Repository> {
    let storage = context.storage(Deadline::never()).await?;
    let (settings, expected) = (&context.settings, context.expected_repository());
    repository::Opening { storage, settings, site: None, expected }.existing().await
}

async fn add(context: &Context, cluster: FirstCluster) -> Result<RepositoryDocument> {
    let repository = open_without_witness(context).await?;
    let said = match repository::add_cluster(&repository, cluster).await? {
        Added::New => "now belongs to",
        Added::Already => "already belongs to",
    };
    output::note(&format!(
        "cluster {} {said} repository {} at {}",
        cluster.system_identifier,
        repository.id(),
        repository.storage()
    ));
    Ok(repository.document().clone())
}

async fn leave_witness(
    context: &Context,
    site: &Site,
    document: &RepositoryDocument,
) -> Result<()> {
    let storage = context.storage(Deadline::never()).await?;
    let witness = Witness { url: storage.to_string(), repository_id: document.repository_id };
    let before = site.witness().ok().flatten();
    site.leave_witness(&witness)?;
    if let Some(before) = before.filter(|before| before.repository_id != witness.repository_id) {
        output::note(&format!(
            "warning: this data directory used repository {} at {}\n\
             until now; what is configured for that one, its archive_command perhaps, is refused\n\
             until you name the new one there, or run `walrs init` for the old one again",
            before.repository_id, before.url
        ));
    }
    Ok(())
}

/// `init` alone may create the directory of a local repository.
async fn create_directory(context: &Context) -> Result<()> {
    let Some(url) = context.settings.repository.as_deref() else { return Ok(()) };
    match url.parse()? {
        RepositoryUrl::Directory(path) => {
            Ok(FsStorage::new(&path).create_root(context.pgdata()?).await?)
        }
        _ => Ok(()),
    }
}

/// What postgres cannot write to, it cannot archive to; it is better said now than by a growing `pg_wal`.
fn warn_of_another_owner(context: &Context) {
    let url = context.settings.repository.as_deref().map(str::parse);
    let (Some(Ok(RepositoryUrl::Directory(path))), Ok(pgdata)) = (url, context.pgdata()) else {
        return;
    };
    let owner = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.uid());
    if let (Ok(theirs), Ok(ours)) = (owner(&path), owner(pgdata))
        && theirs != ours
    {
        output::note(&format!(
            "warning: `{0}` belongs to user {theirs}, the data directory to user {ours}, who archives: \
             see that both may write, or `chown -R {ours} {0}`",
            path.display()
        ));
    }
}

fn refuse_passphrase(context: &Context) -> Result<()> {
    if context.settings.encryption.passphrase_file.is_none() {
        return Ok(());
    }
    Err(Error::usage("only a passphrase is configured")
        .because("archiving derives the key once per segment, and a passphrase is slow on purpose")
        .hint("use `--encrypt --new-key-file FILE`; add the passphrase later with `walrs key add`"))
}
