//! Log lines on stderr: `WALRS_LOG` filters them, `WALRS_LOG_FORMAT=json` makes them JSON.

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::Environment;

/// Starts logging. The WAL verbs are quiet by default: PostgreSQL copies their stderr into its own log, once per segment.
pub(super) fn start(verb: Option<&str>) {
    let environment = Environment::of_process();
    let text = |name| environment.text(name).ok().flatten();
    let on_terminal = std::io::stderr().is_terminal();
    let default = match verb {
        Some("wal-push" | "wal-fetch") => "warn",
        // Whoever sits there sees the bar and the result.
        _ if on_terminal => "info,walrs::backup::push=warn",
        _ => "info",
    };
    let wanted = text("WALRS_LOG").unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(format!("off,walrs={wanted}"))
        .unwrap_or_else(|_| EnvFilter::new(format!("off,walrs={default}")));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    // Only fails when a subscriber was set before, which `main` does not do.
    let _ = match text("WALRS_LOG_FORMAT").as_deref() {
        Some("json") => builder.json().try_init(),
        _ if on_terminal => builder.event_format(Plain).try_init(),
        _ => builder.try_init(),
    };
}

/// On a terminal a log line reads like every other message: no time, and a level only where it says something.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            Level::INFO => "",
            _ => "debug: ",
        })?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
