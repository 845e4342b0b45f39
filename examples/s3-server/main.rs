//! The S3 server of the tests as a program, for `ci/bench`: over TLS, and once more behind a link with latency.
//!
//! ```text
//! s3-server DIRECTORY CERTIFICATE KEY [DELAY_MS …]
//! ```
//!
//! The directories in DIRECTORY are the buckets. Prints one line `DELAY_MS ADDRESS` per endpoint, the one without
//! added latency first, each on a free loopback port, and serves until its standard input ends: it cannot outlive the
//! script that started it. Its credentials are `AKWALRSBENCH` and `not-much-of-a-secret`.

mod delay;
mod endpoint;

#[path = "../../tests/it/support/s3_server/answers.rs"]
#[expect(
    dead_code,
    reason = "tests look at requests and at answers that this program does not give"
)]
mod answers;
#[path = "../../tests/it/support/s3_server/connection.rs"]
mod connection;
#[path = "../../tests/it/support/s3_server/fault.rs"]
#[expect(dead_code, reason = "nothing goes wrong in a benchmark")]
mod fault;
#[path = "../../tests/it/support/s3_server/gateway.rs"]
mod gateway;

use std::error::Error;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;

use self::endpoint::Endpoint;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What the command line asks for.
struct Arguments {
    directory: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    delays: Vec<Duration>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut path =
            |name: &str| words.next().map(PathBuf::from).ok_or(format!("{name} is missing"));
        let (directory, certificate, key) =
            (path("DIRECTORY")?, path("CERTIFICATE")?, path("KEY")?);
        let delays: Result<Vec<u64>, _> = words.map(|word| word.parse()).collect();
        let delays = delays?.into_iter().map(Duration::from_millis).collect();
        Ok(Self { directory, certificate, key, delays })
    }
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(arguments))?;
    // What is left are connections of clients that are gone, and the thread that waits for the end of the input.
    runtime.shutdown_background();
    Ok(())
}

async fn serve(arguments: Arguments) -> Outcome<()> {
    let mut tasks = JoinSet::new();
    let endpoint =
        Endpoint::bind(&arguments.directory, &arguments.certificate, &arguments.key).await?;
    let address = endpoint.address();
    let mut output = std::io::stdout();
    writeln!(output, "0 {address}")?;
    tasks.spawn(endpoint.serve());
    for delay in arguments.delays {
        let link = delay::Link::bind(address, delay).await?;
        writeln!(output, "{} {}", delay.as_millis(), link.address())?;
        tasks.spawn(link.serve());
    }
    output.flush()?;
    let input = walrs::task::unblock(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        ended = input => Ok(ended.map(drop)?),
        Some(stopped) = tasks.join_next() => stopped?,
    }
}
