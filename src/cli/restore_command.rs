//! What the `restore_command` of a restored server must say, so that it works from an empty environment.

use std::path::{Path, PathBuf};

use super::Context;
use crate::config::{KeySpec, Origin, Value};
use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::restore::FetchCommand;

/// Sections that `wal-fetch` never looks at.
const UNUSED: [&str; 5] = ["pgdata", "postgres.", "backup.", "retention.", "compression."];

/// Keys whose values are paths, which mean something else in the server's working directory when they are relative.
const PATHS: [&str; 5] = [
    "spool",
    "s3.ca_file",
    "gcs.credentials_file",
    "encryption.key_file",
    "encryption.passphrase_file",
];

/// What the store's own libraries read, secrets not among it.
const STORE_VARIABLES: [&str; 16] = [
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CA_BUNDLE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

/// Credentials themselves: never written anywhere, so the server must get them otherwise.
const SECRET_VARIABLES: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
];

/// The command for servers that recover from `repository`.
pub(super) fn for_repository(context: &Context, repository: &Repository) -> Result<FetchCommand> {
    let executable = std::env::current_exe()
        .map_err(|source| Error::unavailable("cannot find the walrs binary").because(source))?;
    let config = context.config.file().map(absolute).transpose()?;
    let mut variables = settings(context)?;
    if uses_object_store(context) {
        variables.extend(store_variables(context)?);
    }
    Ok(FetchCommand { executable, config, variables, repository_id: repository.id() })
}

/// The variables with credentials that the server's environment must carry, because this one does.
pub(super) fn credentials_to_carry(context: &Context) -> Result<Vec<&'static str>> {
    if !uses_object_store(context) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for name in SECRET_VARIABLES {
        if context.config.environment().text(name)?.is_some() {
            found.push(name);
        }
    }
    Ok(found)
}

/// Everything that a flag or a variable set, and paths of the file that are relative.
fn settings(context: &Context) -> Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for (spec, value) in context.config.effective() {
        let Some(value) = value.filter(|value| is_needed(spec, value)) else { continue };
        let text = match PATHS.contains(&spec.name) {
            true => in_utf8(absolute(Path::new(&value.text))?)?,
            false => value.text,
        };
        variables.push((spec.environment_name(), text));
    }
    Ok(variables)
}

fn is_needed(spec: &KeySpec, value: &Value) -> bool {
    if UNUSED.iter().any(|unused| spec.name.starts_with(unused)) {
        return false;
    }
    match value.origin {
        Origin::CommandLine | Origin::Environment(_) => true,
        Origin::File(_) => PATHS.contains(&spec.name) && Path::new(&value.text).is_relative(),
        Origin::Default => false,
    }
}

fn store_variables(context: &Context) -> Result<Vec<(String, String)>> {
    let environment = context.config.environment();
    let mut variables = Vec::new();
    for name in STORE_VARIABLES {
        if let Some(value) = environment.text(name)? {
            variables.push((name.to_owned(), value));
        }
    }
    // Profiles lie below the home directory, which an empty environment does not know.
    if let Some(home) = environment.text("HOME")?
        && Path::new(&home).join(".aws").is_dir()
    {
        variables.push(("HOME".to_owned(), home));
    }
    Ok(variables)
}

fn uses_object_store(context: &Context) -> bool {
    let url = context.settings.repository.as_deref().unwrap_or_default();
    url.starts_with("s3:") || url.starts_with("gs:")
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|source| Error::usage(format!("cannot find `{}`", path.display())).because(source))
}

fn in_utf8(path: PathBuf) -> Result<String> {
    path.into_os_string()
        .into_string()
        .map_err(|path| Error::usage(format!("`{}` is no UTF-8", path.to_string_lossy())))
}
