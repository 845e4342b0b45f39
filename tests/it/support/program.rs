//! Running programs to their end, and where the walrs binary under test lies.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use super::user::ServerUser;

/// What a finished program said.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The command as text, for messages.
    pub(crate) command: String,
    /// Exit status; 128 + signal when a signal ended it, as a shell says it.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Finished {
    /// Runs `command` to its end without input.
    pub(crate) fn run(command: &mut Command) -> Self {
        let output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self::of(command, &output)
    }

    /// The result of a `command` that was run by other means.
    pub(crate) fn of(command: &Command, output: &std::process::Output) -> Self {
        let killed = || output.status.signal().map_or(-1, |signal| 128 + signal);
        Self {
            command: spelled(command),
            status: output.status.code().unwrap_or_else(killed),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts the exit status, showing everything when it differs.
    #[track_caller]
    pub(crate) fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status, status, "unexpected exit status\n{self}");
        self
    }

    /// Asserts that the program succeeded, showing everything when not.
    #[track_caller]
    pub(crate) fn expect_success(self) -> Self {
        self.expect_status(0)
    }

    /// Asserts that standard error contains `text`.
    #[track_caller]
    pub(crate) fn expect_message(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "stderr lacks `{text}`\n{self}");
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ {}\nstatus {}", self.command, self.status)?;
        writeln!(f, "--- stdout\n{}\n--- stderr\n{}", self.stdout.trim_end(), self.stderr)
    }
}

fn spelled(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The walrs binary, at a path that the server's user can execute.
pub(crate) fn walrs_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| reachable_copy(Path::new(env!("CARGO_BIN_EXE_walrs"))))
}

/// `path` when the server's user can reach it, else a copy (of the whole tree) in the temporary directory.
///
/// A checkout below a home directory is closed to user `postgres`. The copy has a fixed name, so that runs replace
/// it instead of piling up.
pub(crate) fn reachable_copy(path: &Path) -> PathBuf {
    static COPIES: Mutex<BTreeMap<PathBuf, PathBuf>> = Mutex::new(BTreeMap::new());
    if !ServerUser::get().differs_from_caller() || is_reachable(path) {
        return path.to_owned();
    }
    // Held while copying: another test must not run half a binary.
    let mut copies = COPIES.lock().expect("no panic while copying");
    copies.entry(path.to_owned()).or_insert_with(|| copy_for_everyone(path)).clone()
}

fn copy_for_everyone(path: &Path) -> PathBuf {
    let identity = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
    let directory = std::env::temp_dir().join(format!("walrs-test-binaries-{}", &identity[..16]));
    fs::create_dir_all(&directory).expect("the temporary directory is writable");
    let owner = fs::metadata(&directory).expect("just created").uid();
    assert_eq!(owner, rustix::process::geteuid().as_raw(), "`{}` is not ours", directory.display());
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("ours");
    copy_newer(path, &directory);
    directory.join(path.file_name().expect("binaries have names"))
}

fn is_reachable(path: &Path) -> bool {
    path.ancestors().all(|part| {
        fs::metadata(part).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    })
}

/// Copies what is newer; removing first, because a binary that runs cannot be written to.
fn copy_newer(path: &Path, directory: &Path) {
    let mut command = Command::new("cp");
    command.args(["-a", "-u", "--remove-destination", "-t"]).arg(directory).arg(path);
    Finished::run(&mut command).expect_success();
}
