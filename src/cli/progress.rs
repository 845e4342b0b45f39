//! Progress of long work: a bar with rate and ETA on a terminal, a log line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};

use crate::progress::Progress;

const LOG_EVERY: Duration = Duration::from_secs(30);
const TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} ETA {eta}";

/// The progress that suits stderr.
pub(super) fn reporter() -> Box<dyn Progress> {
    if std::io::stderr().is_terminal() { Box::new(Bar::new()) } else { Box::new(Lines::default()) }
}

struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed");
        Self(ProgressBar::hidden().with_style(style.progress_chars("=> ")))
    }
}

impl Progress for Bar {
    fn begin(&self, what: &'static str, total: u64) {
        self.0.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        self.0.set_message(what);
        self.0.set_position(0);
        self.0.set_length(total);
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}

#[derive(Default)]
struct Lines {
    done: AtomicU64,
    total: AtomicU64,
    state: Mutex<Option<(&'static str, Instant)>>,
}

impl Progress for Lines {
    fn begin(&self, what: &'static str, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        *self.state.lock().expect("no panic while reporting") = Some((what, Instant::now()));
    }

    fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut state = self.state.lock().expect("no panic while reporting");
        let Some((what, last)) = state.as_mut() else { return };
        if last.elapsed() >= LOG_EVERY {
            *last = Instant::now();
            let total = ByteSize(self.total.load(Ordering::Relaxed));
            tracing::info!(done = %ByteSize(done), %total, "{what}");
        }
    }

    fn end(&self) {
        *self.state.lock().expect("no panic while reporting") = None;
    }
}
