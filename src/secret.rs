//! Values that must not leak: nothing prints them, nothing serialises them, and their memory is wiped.

use std::fmt;

use zeroize::Zeroize;

/// A secret that lives in one place on the heap and is wiped when dropped.
///
/// Moving it moves a pointer, so no copies are left behind on the stack. It has no `Clone` and no
/// `Serialize`, and its `Debug` shows nothing of it.
pub struct Secret<T: Zeroize>(Box<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes the value over. A value that was built on the stack is better made by [`Secret::filled`].
    pub fn new(value: T) -> Self {
        Self(Box::new(value))
    }

    /// Changes the value in its place.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0)
    }

    /// The value. Every use of it is a place to look at when asking where secrets go.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<const N: usize> Secret<[u8; N]> {
    /// Bytes that `fill` writes in their final place.
    pub fn filled(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self::new([0; N]);
        fill(&mut secret.0);
        secret
    }

    /// Like [`Secret::filled`], for a `fill` that can fail.
    pub fn try_filled<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self::new([0; N]);
        fill(&mut secret.0)?;
        Ok(secret)
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// K2
    #[test]
    fn debug_output_shows_nothing_of_the_secret() {
        let secret = Secret::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(Secret(..))");
    }

    /// K2
    #[test]
    fn a_dropped_secret_is_wiped() {
        static WIPED: AtomicBool = AtomicBool::new(false);
        struct Witness;
        impl Zeroize for Witness {
            fn zeroize(&mut self) {
                WIPED.store(true, Ordering::SeqCst);
            }
        }
        drop(Secret::new(Witness));
        assert!(WIPED.load(Ordering::SeqCst));
    }

    #[test]
    fn a_failed_fill_gives_its_error() {
        let failed = Secret::<[u8; 4]>::try_filled(|_| Err("no entropy"));
        assert_eq!(failed.unwrap_err(), "no entropy");
    }
}
