//! Named counters: what a machine did with the bytes it did not want.

/// Read access to a machine's counters, by name. Implemented by [`counters!`](crate::counters).
pub trait Counters {
    /// Every counter with its name, in declaration order.
    fn each(&self) -> impl Iterator<Item = (&'static str, u64)>;

    /// The sum of all counters: it moves whenever any of them does.
    fn total(&self) -> u64 {
        self.each().fold(0, |sum, (_, count)| sum.wrapping_add(count))
    }
}

/// Declares a struct of `u64` counters, each with its doc line, and implements
/// [`Counters`](trait@crate::Counters) for it.
///
/// ```
/// use gimlet_machine::Counters as _;
/// gimlet_machine::counters! {
///     /// What the example dropped.
///     pub struct Drops {
///         /// Shorter than a header.
///         too_short,
///     }
/// }
/// let drops = Drops { too_short: 2 };
/// assert_eq!(drops.each().collect::<Vec<_>>(), [("too_short", 2)]);
/// ```
#[macro_export]
macro_rules! counters {
    ($(#[$outer:meta])* $vis:vis struct $name:ident { $($(#[$inner:meta])* $field:ident),* $(,)? }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis struct $name { $($(#[$inner])* pub $field: u64,)* }

        impl $crate::Counters for $name {
            fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field)),*].into_iter()
            }
        }
    };
}

/// Names a branch so that a test can demand it ran (`gimlet_testkit::marked`). Compiles to nothing
/// outside unit tests of the crate that uses it.
#[macro_export]
macro_rules! mark {
    ($name:literal) => {
        #[cfg(test)]
        {
            ::gimlet_testkit::hit($name);
        }
    };
}
