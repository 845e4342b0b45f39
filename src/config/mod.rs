//! Configuration: flag > environment > file > default, every value with its origin.
//!
//! Owns the keys, their layering and their parsing into [`Settings`]. It is the only place that reads the environment.
//! Does not own what a value means to a store, a codec or PostgreSQL.

mod keys;
mod parse;
mod settings;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub use keys::{KEYS, KeySpec, Used};
pub use settings::{
    BackupSettings, CompressionMethod, CompressionSettings, EncryptionSettings, LinkPolicy,
    PostgresSettings, Rescan, RetentionSettings, S3Settings, Settings, WalSettings,
};

const DEFAULT_FILE: &str = "/etc/walrs/walrs.toml";
const FILE_VARIABLE: &str = "WALRS_CONFIG";
/// Variables that are no keys of the configuration.
const OTHER_VARIABLES: [&str; 4] =
    [FILE_VARIABLE, "WALRS_LOG", "WALRS_LOG_FORMAT", "WALRS_FAILPOINT"];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command-line flag.
    CommandLine,
    /// An environment variable of this name.
    Environment(String),
    /// A configuration file.
    File(PathBuf),
    /// Built in.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A configured text and its origin.
#[derive(Clone)]
pub struct Value {
    /// The text as it was written.
    pub text: String,
    /// Where it was written.
    pub origin: Origin,
}

/// A snapshot of the process's environment.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of a variable; empty counts as unset.
    ///
    /// Errors when the value is no UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        match self.0.get(std::ffi::OsStr::new(name)) {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(Error::usage(format!("the environment variable `{name}` is no UTF-8"))),
            },
        }
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Values given as flags: key name and text.
pub type Overrides = Vec<(&'static str, String)>;

/// The effective configuration, before it is parsed.
pub struct Config {
    values: BTreeMap<&'static str, Value>,
    file: Option<PathBuf>,
    environment: Environment,
}

impl Config {
    /// Layers flags over the environment over the file over the defaults.
    ///
    /// `file` is `--config`. Errors name the key, where it stands, and the nearest known key.
    pub fn load(
        file: Option<&Path>,
        overrides: Overrides,
        environment: Environment,
    ) -> Result<Self> {
        let file = configuration_file(file, &environment)?;
        let mut values = BTreeMap::new();
        add_defaults(&mut values);
        if let Some(path) = &file {
            add_file(&mut values, path)?;
        }
        add_environment(&mut values, &environment)?;
        for (key, text) in overrides {
            values.insert(key, Value { text, origin: Origin::CommandLine });
        }
        Ok(Self { values, file, environment })
    }

    /// Every key with its value, in the order of the documentation; secrets are redacted.
    pub fn effective(&self) -> Vec<(&'static KeySpec, Option<Value>)> {
        // A URL with credentials is refused when it is used; it must not be shown before.
        let is_secret = |spec: &KeySpec, text: &str| {
            spec.secret == keys::Secrecy::Secret || (text.contains("://") && text.contains('@'))
        };
        let redacted = |spec: &KeySpec, value: &Value| match is_secret(spec, &value.text) {
            true => Value { text: "(redacted)".to_owned(), origin: value.origin.clone() },
            false => value.clone(),
        };
        KEYS.iter()
            .map(|spec| (spec, self.values.get(spec.name).map(|value| redacted(spec, value))))
            .collect()
    }

    /// The configuration file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The environment that was read.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Variables that look like walrs's and that nothing reads.
    pub fn unknown_variables(&self) -> Vec<String> {
        let known: Vec<String> = KEYS.iter().map(KeySpec::environment_name).collect();
        let names = self.environment.0.keys().filter_map(|name| name.to_str());
        let ours =
            names.filter(|name| name.starts_with("WALRS_") && !OTHER_VARIABLES.contains(name));
        ours.filter(|name| !known.iter().any(|known| known == name)).map(str::to_owned).collect()
    }

    /// Keys that somebody has set and that this version does nothing with.
    pub fn set_for_later(&self) -> Vec<&'static str> {
        let is_set = |spec: &&KeySpec| {
            self.values.get(spec.name).is_some_and(|value| value.origin != Origin::Default)
        };
        let later = KEYS.iter().filter(|spec| spec.used == Used::Later);
        later.filter(is_set).map(|spec| spec.name).collect()
    }

    /// Parses every value; the first that is malformed is an error that names key, value and origin.
    pub fn settings(&self) -> Result<Settings> {
        Settings::parse(self)
    }

    /// The text and origin of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        debug_assert!(KEYS.iter().any(|spec| spec.name == key), "unknown key {key}");
        self.values.get(key)
    }
}

fn configuration_file(flag: Option<&Path>, environment: &Environment) -> Result<Option<PathBuf>> {
    if let Some(path) = flag {
        return Ok(Some(path.to_owned()));
    }
    if let Some(path) = environment.text(FILE_VARIABLE)? {
        return Ok(Some(path.into()));
    }
    match Path::new(DEFAULT_FILE).try_exists() {
        Ok(true) => Ok(Some(DEFAULT_FILE.into())),
        Ok(false) => Ok(None),
        Err(source) => {
            Err(Error::usage(format!("cannot look for `{DEFAULT_FILE}`")).because(source))
        }
    }
}

fn add_defaults(values: &mut BTreeMap<&'static str, Value>) {
    for spec in KEYS {
        if let Some(text) = spec.default {
            values.insert(spec.name, Value { text: text.to_owned(), origin: Origin::Default });
        }
    }
}

fn add_environment(
    values: &mut BTreeMap<&'static str, Value>,
    environment: &Environment,
) -> Result<()> {
    for spec in KEYS {
        // walrs's own name wins over the one shared with libpq.
        for name in
            [spec.alias.map(str::to_owned), Some(spec.environment_name())].into_iter().flatten()
        {
            if let Some(text) = environment.text(&name)? {
                values.insert(spec.name, Value { text, origin: Origin::Environment(name) });
            }
        }
    }
    Ok(())
}

fn add_file(values: &mut BTreeMap<&'static str, Value>, path: &Path) -> Result<()> {
    let unreadable = || format!("cannot read the configuration file `{}`", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::usage(unreadable()).because(source))?;
    let document: toml::Table = toml::from_str(&text)
        .map_err(|source| Error::usage(unreadable()).because(without_text(&text, &source)))?;
    for (name, value) in document {
        match value {
            toml::Value::Table(section) => {
                for (key, value) in section {
                    add_file_value(values, path, &format!("{name}.{key}"), &value)?;
                }
            }
            other => add_file_value(values, path, &name, &other)?,
        }
    }
    Ok(())
}

/// The parser's reason and where, without the line that it would show: a password may stand in it.
fn without_text(text: &str, source: &toml::de::Error) -> String {
    let before = source.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, source.message())
}

fn add_file_value(
    values: &mut BTreeMap<&'static str, Value>,
    path: &Path,
    key: &str,
    value: &toml::Value,
) -> Result<()> {
    let spec = keys::find(key).ok_or_else(|| unknown_key(key, path))?;
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        other => {
            let what = format!("`{key}` in `{}` has the type {}", path.display(), other.type_str());
            return Err(Error::usage(what).hint("write a text, a whole number, or true or false"));
        }
    };
    values.insert(spec.name, Value { text, origin: Origin::File(path.to_owned()) });
    Ok(())
}

fn unknown_key(key: &str, path: &Path) -> Error {
    let error = Error::usage(format!("unknown key `{key}` in `{}`", path.display()));
    match keys::nearest(key) {
        Some(known) => {
            error.hint(format!("did you mean `{known}`? `walrs config` lists every key"))
        }
        None => error.hint("`walrs config` lists every key"),
    }
}

#[cfg(test)]
mod tests;
