//! What every command starts from: configuration, store, repository, data directory.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use super::{Globals, output};
use crate::config::{Config, Environment, Overrides, S3Settings, Settings};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::postgres::{
    CONTROL_FILE, ConnectionSettings, ControlFile, RootCertificates, SslMode, SystemIdentifier,
};
use crate::repository::{Creation, Opening, Repository, Site};
use crate::secret::Secret;
use crate::storage::{self, Addressing, ConnectOptions, RepositoryUrl, S3Options, Storage};
use crate::wal::Meant;

/// The loaded configuration and the options of every command.
pub struct Context {
    /// The layered configuration.
    pub config: Config,
    /// The same, parsed.
    pub settings: Settings,
    globals: Globals,
}

impl Context {
    /// Loads and parses the configuration.
    pub fn load(globals: Globals) -> Result<Self> {
        let config = Config::load(
            globals.config.as_deref(),
            overrides(&globals)?,
            Environment::of_process(),
        )?;
        let settings = config.settings()?;
        Ok(Self { config, settings, globals })
    }

    /// The id that `--repository-id` demands.
    pub fn expected_repository(&self) -> Option<crate::container::RepositoryId> {
        self.globals.repository_id
    }

    /// The options of this command that every command has, for another command that is to mean the same.
    ///
    /// `--pgdata` and `--system-identifier` are not among them.
    pub fn options(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = Vec::new();
        if let Some(file) = &self.globals.config {
            options.extend(["--config".into(), file.into()]);
        }
        if let Some(url) = &self.globals.repository {
            options.extend(["--repository".into(), url.into()]);
        }
        if let Some(id) = self.globals.repository_id {
            options.extend(["--repository-id".into(), id.to_string().into()]);
        }
        options
    }

    /// What the configuration and the command line say about the repository.
    pub fn meant(&self) -> Meant<'_> {
        Meant { settings: &self.settings, repository: self.globals.repository_id }
    }

    /// The cluster that `--system-identifier` names.
    pub fn named_cluster(&self) -> Option<SystemIdentifier> {
        self.globals.system_identifier
    }

    /// The store at the configured URL; nothing is asked of it yet.
    pub async fn storage(&self, deadline: Deadline) -> Result<Arc<dyn Storage>> {
        let (url, s3) = (self.url()?, s3_options(&self.settings.s3)?);
        storage::connect(&ConnectOptions { url, s3, deadline }).await
    }

    fn url(&self) -> Result<RepositoryUrl> {
        let url = self.settings.repository.as_deref().ok_or_else(|| {
            Error::usage("no repository is configured")
                .hint("set `WALRS_REPOSITORY`, or `repository` in `/etc/walrs/walrs.toml`")
        })?;
        url.parse()
    }

    async fn opening<'a>(
        &'a self,
        deadline: Deadline,
        site: Option<&'a Site>,
    ) -> Result<Opening<'a>> {
        let (storage, expected) = (self.storage(deadline).await?, self.globals.repository_id);
        Ok(Opening { storage, settings: &self.settings, site, expected })
    }

    /// Opens the repository as `creation` allows.
    pub async fn open(
        &self,
        deadline: Deadline,
        site: Option<&Site>,
        creation: Creation,
    ) -> Result<Repository> {
        self.opening(deadline, site).await?.open(creation).await
    }

    /// Opens the repository for a command that PostgreSQL runs once per segment: in an object store, an identity that was
    /// read within five minutes is enough.
    pub async fn open_for_wal(
        &self,
        deadline: Deadline,
        site: Option<&Site>,
        creation: Creation,
    ) -> Result<Repository> {
        let opening = self.opening(deadline, site).await?;
        match self.url()? {
            RepositoryUrl::Directory(_) => opening.open(creation).await,
            _ => opening.open_or_remember(creation).await,
        }
    }

    /// Opens the repository, which must exist; the configured data directory's witness is compared.
    pub async fn repository(&self, deadline: Deadline) -> Result<Repository> {
        let site = self.site()?;
        let reason = "this command never makes a repository".to_owned();
        self.open(deadline, site.as_ref(), Creation::Refused(reason)).await
    }

    /// The data directory, which the command needs.
    pub fn pgdata(&self) -> Result<&Path> {
        self.settings.pgdata.as_deref().ok_or_else(|| {
            Error::usage("no data directory is configured")
                .hint("set `PGDATA`, or give `--pgdata DIR`")
        })
    }

    /// The site of the configured data directory; none when none is configured or it is not there.
    pub fn site(&self) -> Result<Option<Site>> {
        match self.settings.pgdata.as_deref().filter(|pgdata| pgdata.is_dir()) {
            Some(pgdata) => Ok(Some(self.site_of(pgdata)?)),
            None => Ok(None),
        }
    }

    /// The site of a data directory.
    pub fn site_of(&self, pgdata: &Path) -> Result<Site> {
        Site::locate(pgdata, self.settings.spool.as_deref())
    }

    /// The cluster that is meant: `--system-identifier`, else the data directory's, else the repository's newest, said on stderr.
    pub fn cluster(&self, repository: &Repository) -> Result<SystemIdentifier> {
        if let Some(cluster) = self.globals.system_identifier {
            repository.authorise(cluster)?;
            return Ok(cluster);
        }
        if let Some(pgdata) =
            self.settings.pgdata.as_deref().filter(|pgdata| has_control_file(pgdata))
        {
            let cluster = ControlFile::read(pgdata)?.system_identifier;
            repository.authorise(cluster)?;
            return Ok(cluster);
        }
        let cluster = repository.newest_cluster();
        if repository.epochs().len() > 1 {
            output::note(&format!(
                "note: cluster {cluster} is meant, the newest of the repository; name another with --system-identifier"
            ));
        }
        Ok(cluster)
    }

    /// How to reach the server; `application_name` is what `pg_stat_activity` shows.
    pub fn connection(&self, application_name: &str) -> Result<ConnectionSettings> {
        let settings = &self.settings.postgres;
        let ssl_mode = match settings.sslmode.as_deref() {
            Some(mode) => mode.parse().map_err(|source| {
                Error::usage("`postgres.sslmode` is malformed").because(source)
            })?,
            None => SslMode::default(),
        };
        Ok(ConnectionSettings {
            host: settings.host.clone(),
            port: settings.port,
            user: settings.user.clone(),
            password: settings.password.as_ref().map(|secret| Secret::new(secret.expose().clone())),
            database: settings.database.clone(),
            password_file: settings.passfile.clone(),
            ssl_mode,
            root_certificates: settings.sslrootcert.clone().map(RootCertificates::from),
            connect_timeout: None,
            application_name: application_name.to_owned(),
        })
    }
}

fn has_control_file(pgdata: &Path) -> bool {
    pgdata.join(CONTROL_FILE).exists()
}

fn overrides(globals: &Globals) -> Result<Overrides> {
    let mut overrides = Overrides::new();
    if let Some(url) = &globals.repository {
        overrides.push(("repository", url.clone()));
    }
    if let Some(pgdata) = &globals.pgdata {
        let text = pgdata.to_str().ok_or_else(|| Error::usage("`--pgdata` is no UTF-8"))?;
        overrides.push(("pgdata", text.to_owned()));
    }
    Ok(overrides)
}

fn s3_options(settings: &S3Settings) -> Result<S3Options> {
    let addressing = settings.path_style.map(|path_style| match path_style {
        true => Addressing::Path,
        false => Addressing::VirtualHost,
    });
    Ok(S3Options {
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        addressing,
        storage_class: settings.storage_class.clone(),
        encryption: settings.sse.as_deref().map(str::parse).transpose()?,
        kms_key_id: settings.sse_kms_key_id.clone(),
        ca_file: settings.ca_file.clone(),
        ..S3Options::default()
    })
}
