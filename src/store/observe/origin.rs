//! Where the bytes of a read came from, noted by the layer that finds them and taken by the one that answers.
//!
//! A request is answered by the thread that took it, so the note is the thread's own: to leave it costs a store to memory, and no
//! signature between the layers changes for it.

use std::cell::Cell;

/// A place that bytes come from; the page cache of the kernel is none, since what it has is never asked for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Origin {
    /// No bytes were needed: the end of a file, or no read.
    #[default]
    None,
    /// An entry of the raw store that was there.
    Raw,
    /// A blob that was inflated, or copied, and verified.
    Blob,
    /// A blob that the raw store could not take.
    Memory,
    /// The relocated copy of the space.
    Relocated,
    /// What was written to the space.
    Written,
    /// Another machine.
    Remote,
}

impl Origin {
    /// Every place, in the order of their numbers.
    pub const ALL: [Origin; 7] = [
        Origin::None,
        Origin::Raw,
        Origin::Blob,
        Origin::Memory,
        Origin::Relocated,
        Origin::Written,
        Origin::Remote,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Origin::None => "none",
            Origin::Raw => "raw store",
            Origin::Blob => "blob inflated",
            Origin::Memory => "blob in memory",
            Origin::Relocated => "relocated copy",
            Origin::Written => "written",
            Origin::Remote => "remote",
        }
    }
}

thread_local! {
    static NOTED: Cell<Origin> = const { Cell::new(Origin::None) };
}

/// Notes where this thread found bytes.
pub fn note(origin: Origin) {
    NOTED.set(origin);
}

/// What was noted since the last time; nothing is noted then.
pub fn take() -> Origin {
    NOTED.replace(Origin::None)
}
