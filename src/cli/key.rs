//! `walrs key`: the slots that open an encrypted repository.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::{Context, Outcome, output};
use crate::container::SlotId;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::repository::{KeySlots, NewSlot};

/// Arguments of `walrs key`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Let a further key file or passphrase open the repository
    Add(AddArgs),
    /// List the slots
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Remove a slot; the last one cannot be removed
    Remove {
        /// The slot's id, as `walrs key list` shows it
        slot: SlotId,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false, id = "new")]
struct NewArgs {
    /// Create this key file (0600; refused if it exists)
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
    /// Read the passphrase from this file
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    #[command(flatten)]
    new: NewArgs,
    /// A note to tell slots apart
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

#[derive(Serialize)]
struct Row {
    slot_id: SlotId,
    kind: String,
    created: String,
    label: Option<String>,
}

/// Adds, lists or removes slots.
pub(super) async fn run(args: Args, context: &Context) -> Result<Outcome> {
    let repository = context.repository(Deadline::never()).await?;
    let slots = KeySlots::of(&repository)?;
    match args.action {
        Action::Add(add) => {
            let new = match (&add.new.new_key_file, &add.new.new_passphrase_file) {
                (Some(path), _) => NewSlot::KeyFile(path),
                (None, Some(path)) => NewSlot::Passphrase(path),
                (None, None) => unreachable!("clap requires one of them"),
            };
            let slot = slots.add(&context.settings.encryption, &new, add.label).await?;
            output::note(&format!("added key slot {slot}"));
        }
        Action::List { json } => list(&slots, json).await?,
        Action::Remove { slot } => {
            slots.remove(slot).await?;
            output::note(&format!(
                "removed key slot {slot}\n\
                 whoever copied the repository key while the slot existed can still read;\n\
                 hosts may hold the slot in a cache"
            ));
        }
    }
    Ok(Outcome::Done)
}

async fn list(slots: &KeySlots<'_>, json: bool) -> Result<()> {
    let rows: Vec<Row> = slots
        .list()
        .await?
        .into_iter()
        .map(|slot| Row {
            slot_id: slot.slot_id(),
            kind: slot.derivation().to_string(),
            created: slot.created().to_string(),
            label: slot.label().map(str::to_owned),
        })
        .collect();
    if json {
        return output::json(&rows);
    }
    let cells = |row: Row| {
        vec![
            row.slot_id.to_string(),
            row.kind,
            row.created,
            row.label.unwrap_or_else(|| "-".to_owned()),
        ]
    };
    output::line(&output::table(&["SLOT", "KIND", "CREATED", "LABEL"], rows.into_iter().map(cells)))
}
