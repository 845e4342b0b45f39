//! What `walrs restore` says of what it did, or would do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytesize::ByteSize;
use serde::Serialize;

use super::{Context, Outcome, output, restore_command};
use crate::error::Result;
use crate::restore::{Amounts, Archiving, Goal, Ready, RecoveryPlan, Role, Target};

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

/// What was, or would be, restored.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    backup: String,
    backup_stop_time: String,
    system_identifier: String,
    data_directory: String,
    tablespaces: BTreeMap<u32, String>,
    target: String,
    timeline: u32,
    action: String,
    #[serde(skip)]
    afterwards: String,
    archiving: &'static str,
    files: u64,
    bytes: u64,
    packs: usize,
    stored_bytes: u64,
    warnings: Vec<String>,
}

/// A report with its amounts.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    blocks: u64,
    changed_files: u64,
    read_bytes: u64,
    fetch_blocks: u64,
    fetch_bytes: u64,
    write_bytes: u64,
}

impl Report {
    /// All but the amounts.
    pub(super) fn new(
        plan: &RecoveryPlan,
        ready: &Ready<'_>,
        archiving: Archiving,
        context: &Context,
    ) -> Result<Self> {
        let manifest = &plan.manifest;
        let place = |(number, path): (&u32, &PathBuf)| (*number, path.display().to_string());
        let mut warnings: Vec<String> = plan.warning.iter().cloned().collect();
        let credentials = restore_command::credentials_to_carry(context)?;
        if !credentials.is_empty() {
            warnings.push(format!(
                "the environment of the server must carry {}: credentials are not written into its settings",
                credentials.join(", ")
            ));
        }
        warnings.extend(ready.abandoned_tablespaces().iter().map(|(number, directory)| {
            let directory = directory.display();
            format!("tablespace {number} leaves `{directory}`; what lies there is no longer used")
        }));
        Ok(Self {
            backup: manifest.backup_id.to_string(),
            backup_stop_time: manifest.stop_time.to_string(),
            system_identifier: manifest.system_identifier.to_string(),
            data_directory: ready.data().display().to_string(),
            tablespaces: ready.tablespaces().iter().map(place).collect(),
            target: plan.goal.target.to_string(),
            timeline: plan.timeline.get(),
            action: plan.goal.action.to_string(),
            afterwards: afterwards(&plan.goal),
            archiving: match archiving {
                Archiving::Off => "off",
                Archiving::Keep => "keep",
            },
            files: manifest.files,
            bytes: manifest.bytes,
            packs: manifest.packs.len(),
            stored_bytes: manifest.packs.iter().map(|pack| pack.size).sum(),
            warnings,
        })
    }

    /// Prints what would be done.
    pub(super) fn print_plan(&self, amounts: &Amounts, format: Format) -> Result<Outcome> {
        match format {
            Format::Json => output::json(&self.document(amounts))?,
            Format::Text => output::line(&self.plan_text(amounts))?,
        }
        Ok(Outcome::Done)
    }

    fn document(&self, amounts: &Amounts) -> Document<'_> {
        Document {
            report: self,
            blocks: amounts.blocks,
            changed_files: amounts.changed_files,
            read_bytes: amounts.read_bytes,
            fetch_blocks: amounts.fetch_blocks,
            fetch_bytes: amounts.fetch_bytes,
            write_bytes: amounts.write_bytes,
        }
    }

    fn plan_text(&self, amounts: &Amounts) -> String {
        let mut lines = vec![
            format!("backup      {} (ended at {})", self.backup, self.backup_stop_time),
            format!("into        {}", self.data_directory),
        ];
        lines.extend(
            self.tablespaces.iter().map(|(oid, path)| format!("tablespace  {oid} into {path}")),
        );
        lines.push(format!(
            "target      {} on timeline {}, {}",
            self.target, self.timeline, self.afterwards
        ));
        lines.push(format!(
            "backup has  {} files, {} blocks, {}",
            amounts.files,
            amounts.blocks,
            ByteSize(amounts.bytes)
        ));
        lines.push(format!("read        {} of files that are there", ByteSize(amounts.read_bytes)));
        lines.push(format!(
            "fetch       {} blocks, {} stored",
            amounts.fetch_blocks,
            ByteSize(amounts.fetch_bytes)
        ));
        lines.push(format!(
            "write       {} files, {}",
            amounts.changed_files,
            ByteSize(amounts.write_bytes)
        ));
        lines.push(format!("archiving   {}", self.archiving));
        lines.extend(self.warnings.iter().map(|warning| format!("warning     {warning}")));
        lines.join("\n")
    }

    /// Prints what was done and what to do next.
    pub(super) fn print_done(&self, amounts: &Amounts, format: Format) -> Result<Outcome> {
        if format == Format::Json {
            output::json(&self.document(amounts))?;
        }
        for warning in &self.warnings {
            output::note(&format!("warning: {warning}"));
        }
        output::note(&format!(
            "restored backup {} into {}: {} files, {}",
            self.backup,
            self.data_directory,
            self.files,
            ByteSize(self.bytes)
        ));
        if amounts.read_bytes > 0 {
            output::note(&format!(
                "of these, {} files were changed: {} fetched, {} written",
                amounts.changed_files,
                ByteSize(amounts.fetch_bytes),
                ByteSize(amounts.write_bytes)
            ));
        }
        output::note(&format!(
            "once started, the server recovers to {}\non timeline {}, {}\n\
             start it with: pg_ctl -D '{}' start",
            self.target, self.timeline, self.afterwards, self.data_directory
        ));
        output::note(self.archiving_text());
        Ok(Outcome::Done)
    }

    /// R7
    fn archiving_text(&self) -> &'static str {
        if self.archiving == "off" {
            "archiving is off in this copy, so that it cannot write into the repository of\n\
             its source; once it replaces the source: ALTER SYSTEM SET archive_mode = on,\n\
             restart the server, and take a backup"
        } else {
            "archiving is as the source had it: once promoted, this server archives with\n\
             the source's archive_command"
        }
    }
}

fn afterwards(goal: &Goal) -> String {
    match (goal.role, &goal.target) {
        (Role::Standby, Target::EndOfWal) => "and stays a standby".to_owned(),
        _ => format!("then: {}", goal.action),
    }
}
