//! The `restore_command` that a restored server gets: it works from an empty environment.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::container::RepositoryId;

/// How `wal-fetch` is called. No secret may be among the variables: PostgreSQL shows the command to every superuser.
#[derive(Debug, Clone)]
pub struct FetchCommand {
    /// Absolute path of the walrs binary.
    pub executable: PathBuf,
    /// Absolute path of the configuration file, if there is one.
    pub config: Option<PathBuf>,
    /// What the file does not say: names and values.
    pub variables: Vec<(String, String)>,
    /// The only repository that may answer.
    pub repository_id: RepositoryId,
}

impl FetchCommand {
    /// The value of `restore_command`, for the shell and with PostgreSQL's `%f` and `%p`.
    pub fn to_setting(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.variables {
            write!(text, "{name}={} ", word(value)).expect("a string takes everything");
        }
        text.push_str(&word(&self.executable.to_string_lossy()));
        if let Some(config) = &self.config {
            write!(text, " --config {}", word(&config.to_string_lossy()))
                .expect("a string takes everything");
        }
        write!(text, " --repository-id {} wal-fetch %f %p", self.repository_id)
            .expect("a string takes everything");
        text
    }
}

/// One word for `sh`, with `%` doubled for PostgreSQL.
fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:=@+,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(executable: &str, config: Option<&str>, variables: &[(&str, &str)]) -> String {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        FetchCommand {
            executable: executable.into(),
            config: config.map(PathBuf::from),
            variables: variables.iter().map(owned).collect(),
            repository_id: RepositoryId::from_bytes([0xAB; 16]),
        }
        .to_setting()
    }

    #[test]
    fn a_plain_command_reads_like_one_written_by_hand() {
        let id = "ab".repeat(16);
        let config = Some("/etc/walrs/walrs.toml");
        assert_eq!(
            command("/usr/bin/walrs", config, &[]),
            format!(
                "/usr/bin/walrs --config /etc/walrs/walrs.toml --repository-id {id} wal-fetch %f %p"
            )
        );
        let variables = [("WALRS_REPOSITORY", "s3://bucket/prefix")];
        assert!(
            command("/usr/bin/walrs", None, &variables)
                .starts_with("WALRS_REPOSITORY=s3://bucket/prefix /usr/bin/walrs --repository-id ")
        );
    }

    #[test]
    fn the_shell_and_postgresql_give_back_what_was_quoted() {
        let nasty = "it's 100% $HOME `x` \\ \"q\"";
        let setting = command("/bin/echo", None, &[("X", nasty)]);
        // What PostgreSQL makes of it, but for %f and %p.
        let shell = setting.replace("%%", "%");
        let (assignment, _) = shell.split_once(" /bin/echo").unwrap();
        let script = format!("{assignment}; printf %s \"$X\"");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), nasty);
    }
}
