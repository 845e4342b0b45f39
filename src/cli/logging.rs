//! Log lines on stderr: `WALRS_LOG` filters them, `WALRS_LOG_FORMAT=json` makes them JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::Environment;

/// Starts logging. The WAL verbs are quiet by default: PostgreSQL copies their stderr into its own log, once per segment.
pub(super) fn start(verb: Option<&str>) {
    let environment = Environment::of_process();
    let text = |name| environment.text(name).ok().flatten();
    let default = match verb {
        Some("wal-push" | "wal-fetch") => "warn",
        _ => "info",
    };
    let wanted = text("WALRS_LOG").unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(format!("off,walrs={wanted}"))
        .unwrap_or_else(|_| EnvFilter::new(format!("off,walrs={default}")));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // Only fails when a subscriber was set before, which `main` does not do.
    let _ = match text("WALRS_LOG_FORMAT").as_deref() {
        Some("json") => builder.json().try_init(),
        _ => builder.try_init(),
    };
}
