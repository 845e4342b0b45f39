//! Buffers for blocks, used again and again: a new megabyte from the system costs 256 page faults.

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use crate::budget::Reservation;
use crate::container::CHUNK_SIZE;

/// Most buffers that wait to be used again; they are outside the budget.
const WAITING_BUFFERS: usize = 16;

/// Buffers that wait to be used again.
#[derive(Debug, Clone, Default)]
pub(super) struct BufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

/// Bytes on their way into a chunk, with their part of the budget.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
    reservation: Option<Reservation>,
    pool: BufferPool,
}

/// The size of the buffer that is taken for `bytes`: small ones are made to measure, all others are alike.
pub(super) fn buffer_size(bytes: usize) -> usize {
    const MADE_TO_MEASURE: usize = 64 << 10;
    if bytes > MADE_TO_MEASURE { CHUNK_SIZE.max(bytes) } else { bytes }
}

impl BufferPool {
    /// A buffer with room for at least `capacity` bytes. What it holds beyond its filled part is arbitrary.
    pub(super) fn take(&self, capacity: usize, reservation: Option<Reservation>) -> Buffer {
        let bytes = match buffer_size(capacity) {
            CHUNK_SIZE => self.recycled(),
            small => vec![0; small],
        };
        Buffer { bytes, filled: 0, reservation, pool: self.clone() }
    }

    fn recycled(&self) -> Vec<u8> {
        let waiting = self.0.lock().expect("taking a buffer does not panic").pop();
        waiting.unwrap_or_else(|| vec![0; CHUNK_SIZE])
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut waiting = self.0.lock().expect("giving a buffer back does not panic");
        if bytes.len() == CHUNK_SIZE && waiting.len() < WAITING_BUFFERS {
            waiting.push(bytes);
        }
    }
}

impl Buffer {
    /// Bytes that still fit.
    pub(super) fn room(&self) -> usize {
        self.bytes.len() - self.filled
    }

    /// The part that is not filled.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// Counts the first `length` spare bytes as filled.
    pub(super) fn fill(&mut self, length: usize) {
        assert!(length <= self.room(), "a buffer was filled beyond its end");
        self.filled += length;
    }

    /// Appends `bytes`, which must fit.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.spare()[..bytes.len()].copy_from_slice(bytes);
        self.fill(bytes.len());
    }

    /// Removes `length` bytes at `start` and closes the gap.
    pub(super) fn remove(&mut self, start: usize, length: usize) {
        self.bytes.copy_within(start + length..self.filled, start);
        self.filled -= length;
    }

    /// Gives back the room that is not filled, when that is most of it: a few bytes must not hold a megabyte while they
    /// wait for others.
    pub(super) fn fit(&mut self) {
        if self.filled <= self.bytes.len() / 2 {
            let fitting = self.bytes[..self.filled].to_vec();
            self.pool.give_back(std::mem::replace(&mut self.bytes, fitting));
            if let Some(reservation) = &mut self.reservation {
                reservation.shrink_to(self.filled as u64);
            }
        }
    }

    /// Takes the part of the budget away, to keep it with a copy of the bytes.
    pub(super) fn take_reservation(&mut self) -> Option<Reservation> {
        self.reservation.take()
    }

    /// Adds a part of the budget to this buffer's own.
    pub(super) fn add_reservation(&mut self, more: Option<Reservation>) {
        match (&mut self.reservation, more) {
            (Some(own), Some(more)) => own.merge(more),
            (own @ None, more) => *own = more,
            (Some(_), None) => {}
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}
