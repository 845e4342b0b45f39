//! What a backup would read, without reading it.

use super::walk::{DataDirectory, Found};
use crate::error::Result;

/// How much a data directory holds of what is copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Survey {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories, tablespaces included.
    pub directories: u64,
    /// Tablespaces with a directory of their own.
    pub tablespaces: u64,
}

/// Walks the data directory as a backup would; blocking.
pub(super) fn survey_of(data: &DataDirectory) -> Result<Survey> {
    let mut survey = Survey::default();
    data.walk(&mut |found| {
        survey.add(&found);
        Ok(())
    })?;
    Ok(survey)
}

impl Survey {
    pub(super) fn add(&mut self, found: &Found) {
        match found {
            Found::File(file) => {
                self.files += 1;
                self.bytes += file.status.size;
            }
            Found::Directory { .. } => self.directories += 1,
            Found::Tablespace { .. } => {
                self.directories += 1;
                self.tablespaces += 1;
            }
        }
    }
}
