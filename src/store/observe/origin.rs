//! The origin of the bytes of a read, recorded by the layer that finds them and taken by the layer that answers.
//!
//! A request is answered by the thread that received it, so the record is thread-local: it costs one store to memory, and no function
//! signature between the layers has to change.

use std::cell::Cell;

/// An origin of bytes; the kernel's page cache is not one, since reads from it cause no request.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Origin {
    /// No bytes were needed: the end of a file, or no read.
    #[default]
    None,
    /// An existing entry of the raw store.
    Raw,
    /// A blob that was inflated, or copied, and verified.
    Blob,
    /// A blob that the raw store could not store.
    Memory,
    /// The relocated copy of the space.
    Relocated,
    /// Content written to the space.
    Written,
    /// A remote.
    Remote,
}

impl Origin {
    /// All origins, in numeric order.
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

/// Records where this thread found bytes.
pub fn note(origin: Origin) {
    NOTED.set(origin);
}

/// Returns what was recorded since the last call, and clears it.
pub fn take() -> Origin {
    NOTED.replace(Origin::None)
}
