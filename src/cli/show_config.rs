//! `walrs config`: the effective configuration with the origin of every value.

use serde::Serialize;

use super::{Context, Outcome, output};
use crate::config::{KeySpec, Used, Value};
use crate::error::Result;

/// Arguments of `walrs config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    key: &'static str,
    value: Option<String>,
    origin: Option<String>,
    environment: String,
    meaning: &'static str,
    used: bool,
}

impl Row {
    fn new((spec, value): (&'static KeySpec, Option<Value>)) -> Self {
        let origin = value.as_ref().map(|value| value.origin.to_string());
        let (key, meaning, environment) = (spec.name, spec.meaning, spec.environment_name());
        let (value, used) = (value.map(|value| value.text), spec.used == Used::Now);
        Self { key, value, origin, environment, meaning, used }
    }

    fn cells(self) -> Vec<String> {
        let text = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let note = if self.used { "" } else { ", not used by this version" };
        vec![self.key.to_owned(), text(self.value), text(self.origin) + note]
    }
}

/// Prints every key, its value and where it came from.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome> {
    let rows: Vec<Row> = context.config.effective().into_iter().map(Row::new).collect();
    if args.json {
        output::json(&rows)?;
    } else {
        output::line(&output::table(
            &["KEY", "VALUE", "ORIGIN"],
            rows.into_iter().map(Row::cells),
        ))?;
    }
    Ok(Outcome::Done)
}
