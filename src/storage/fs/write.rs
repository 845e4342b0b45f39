//! Storing one object: temporary file, sync, rename, sync of the directory and of every new or young parent.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::root::Root;
use super::{
    Body, DIRECTORY_MODE, FILE_MODE, ObjectKey, PutMode, StorageError, StorageErrorKind, failure,
};
use crate::durable::{self, Existing, Pending};
use crate::{step, task};

/// How many parts of a streamed body may wait for the disk.
const PARTS_WAITING: usize = 4;

/// How often a directory may vanish between its making and its use, because a deletion prunes empty ones.
const PRUNING_RACES: usize = 16;

/// One part of a streamed body, or its end: a closed channel alone means that the producer died.
enum Message {
    Part(Bytes),
    End,
}

/// Stores an object, durable on return.
pub(super) async fn put(
    root: &Arc<Root>,
    key: &ObjectKey,
    body: Body,
    mode: PutMode,
) -> Result<(), StorageError> {
    let (root, key) = (Arc::clone(root), key.clone());
    match body.as_bytes().cloned() {
        Some(bytes) => {
            task::unblock(move || store(&root, &key, mode, |file| file.write_all(&bytes))).await
        }
        None => put_stream(root, key, &body, mode).await,
    }
}

async fn put_stream(
    root: Arc<Root>,
    key: ObjectKey,
    body: &Body,
    mode: PutMode,
) -> Result<(), StorageError> {
    let (sender, receiver) = mpsc::channel(PARTS_WAITING);
    let location = format!("{root}/{key}");
    let write = task::unblock(move || store(&root, &key, mode, |file| drain(receiver, file)));
    let (fed, stored) = tokio::join!(feed(body, sender), write);
    // When the content could not be produced, that is the cause; the writer saw a channel without an end.
    fed.map_err(|error| {
        let what = format!("cannot produce the content of `{location}`");
        StorageError::new(StorageErrorKind::Invalid, what).because(error)
    })?;
    stored
}

async fn feed(body: &Body, sender: mpsc::Sender<Message>) -> io::Result<()> {
    let mut parts = body.open();
    while let Some(part) = parts.next().await {
        if sender.send(Message::Part(part?)).await.is_err() {
            return Ok(()); // the writer has failed and says why
        }
    }
    // A writer that has failed meanwhile does not wait for the end.
    let _ = sender.send(Message::End).await;
    Ok(())
}

fn drain(mut parts: mpsc::Receiver<Message>, file: &mut File) -> io::Result<()> {
    loop {
        match parts.blocking_recv() {
            Some(Message::Part(part)) => file.write_all(&part)?,
            Some(Message::End) => return Ok(()),
            None => return Err(io::Error::other("its producer was stopped")),
        }
    }
}

fn store(
    root: &Root,
    key: &ObjectKey,
    mode: PutMode,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), StorageError> {
    root.check()?;
    match write_and_publish(root, key, mode, write) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let what = format!("`{root}/{key}` exists already");
            Err(StorageError::new(StorageErrorKind::AlreadyExists, what))
        }
        Err(error) => Err(failure::of("cannot store", format!("{root}/{key}"), error)),
    }
}

fn write_and_publish(
    root: &Root,
    key: &ObjectKey,
    mode: PutMode,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let existing = match mode {
        PutMode::Create => Existing::Keep,
        PutMode::Overwrite => Existing::Replace,
    };
    let path = root.path_of(key);
    let mut pending = begin(root, key, &path)?;
    write(pending.file())?;
    step::reached("storage-fs:written");
    match pending.publish(&path, existing) {
        // The winner may have died before it synced the name, and the caller may take its object for a success.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            durable::sync_parent(&path)?;
            Err(error)
        }
        other => other,
    }
}

fn begin(root: &Root, key: &ObjectKey, path: &Path) -> io::Result<Pending> {
    let directory = path.parent().expect("an object lies in a directory");
    let attempt = || {
        durable::create_directories(root.path(), directory, DIRECTORY_MODE)?;
        let mut pending = Pending::create_in(directory, FILE_MODE)?;
        root.hand_over(key, pending.file())?;
        Ok::<_, io::Error>(pending)
    };
    let mut races = 0;
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && races < PRUNING_RACES => {
                races += 1;
            }
            other => return other,
        }
    }
}

/// The clock of the file system: the time it gives to a file made now, removed at once.
pub(super) fn moment(root: &Root) -> Result<SystemTime, StorageError> {
    let top = root.check()?;
    let modified = || Pending::create_in(top, FILE_MODE)?.file().metadata()?.modified();
    modified().map_err(|error| failure::of("cannot read the clock of", root, error))
}
