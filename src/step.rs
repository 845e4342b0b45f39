//! Named points at which a test kills or pauses the process; nothing at all in a release build.
//!
//! `WALRS_FAILPOINT=NAME=kill` ends the process with SIGKILL when NAME is reached, `NAME=kill:N` the N-th time.
//! `NAME=pause:FILE` creates FILE, the first time, and waits until it is removed. Several are separated by `;`.

/// Marks that the step `name` has just been completed (or is about to begin, as its name says).
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reached(_name: &str) {}

/// Marks that the step `name` has just been completed (or is about to begin, as its name says).
#[cfg(feature = "failpoints")]
pub fn reached(name: &str) {
    failpoints::reached(name);
}

#[cfg(feature = "failpoints")]
mod failpoints {
    use std::sync::Mutex;
    use std::time::Duration;

    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[expect(clippy::disallowed_methods, reason = "a test's switch, not configuration")]
    pub(super) fn reached(name: &str) {
        let Ok(rules) = std::env::var("WALRS_FAILPOINT") else { return };
        for rule in rules.split(';') {
            let Some((point, action)) = rule.split_once('=') else { continue };
            if point == name {
                act(name, action);
            }
        }
    }

    fn act(name: &str, action: &str) {
        let (verb, argument) = action.split_once(':').unwrap_or((action, ""));
        match verb {
            "kill" => {
                let wanted: usize = argument.parse().unwrap_or(1);
                if count(name) == wanted {
                    kill_this_process();
                }
            }
            "pause" if count(name) == 1 => pause(argument),
            "pause" => {}
            other => panic!("unknown fail point action `{other}`"),
        }
    }

    fn count(name: &str) -> usize {
        let mut seen = SEEN.lock().expect("no panic while counting");
        seen.push(name.to_owned());
        seen.iter().filter(|entry| *entry == name).count()
    }

    fn kill_this_process() {
        let process = rustix::process::getpid();
        rustix::process::kill_process(process, rustix::process::Signal::KILL)
            .expect("a process may kill itself");
        loop {
            std::thread::park();
        }
    }

    fn pause(file: &str) {
        std::fs::write(file, b"paused").expect("the pause file can be created");
        while std::path::Path::new(file).exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
