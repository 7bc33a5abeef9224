//! The sources of file content: ready in the raw store, prepared there, or directly from the blob.

use std::io::{self, Write};

use crate::store::{BlobSource, RawFile, Store, StoreError, Wanted};
use crate::sys::fs::at::TreeDir;
use crate::sys::fs::name::Name;

/// Verified content. Every method returns exactly the content of the digest, or an error.
pub trait Content: Sync {
    /// The whole file, if it is available without decoding anything.
    fn ready(&self, wanted: &Wanted) -> Option<RawFile>;

    /// The whole file, decoded and stored if necessary; with its path if it can be linked.
    fn ensure(&self, wanted: &Wanted) -> Result<RawFile, StoreError>;

    /// Hard-links the whole file to the free name `name` in `dir`, if it is available and may be linked unchanged. Otherwise false,
    /// and `name` stays free.
    fn link(&self, wanted: &Wanted, dir: &TreeDir, name: Name<'_>) -> io::Result<bool>;

    /// Whether content must be hashed at each use.
    fn is_paranoid(&self) -> bool {
        false
    }

    /// Writes the content to `sink` while verifying it; after an error the sink contains garbage.
    fn stream(&self, wanted: &Wanted, sink: &mut dyn Write) -> Result<(), StoreError>;
}

impl Content for Store {
    fn ready(&self, wanted: &Wanted) -> Option<RawFile> {
        Store::ready(self, wanted)
    }

    fn ensure(&self, wanted: &Wanted) -> Result<RawFile, StoreError> {
        self.ensure_raw(wanted)
    }

    fn link(&self, wanted: &Wanted, dir: &TreeDir, name: Name<'_>) -> io::Result<bool> {
        self.link_ready(wanted, dir, name)
    }

    fn is_paranoid(&self) -> bool {
        Store::is_paranoid(self)
    }

    fn stream(&self, wanted: &Wanted, sink: &mut dyn Write) -> Result<(), StoreError> {
        self.stream_to(wanted, sink)
    }
}

/// Any other source, as in tests: nothing is ready, and a stream is a copy.
pub struct Plain<S>(pub S);

impl<S: BlobSource> Content for Plain<S> {
    fn ready(&self, _wanted: &Wanted) -> Option<RawFile> {
        None
    }

    fn ensure(&self, wanted: &Wanted) -> Result<RawFile, StoreError> {
        self.0.open(wanted)
    }

    fn link(&self, _wanted: &Wanted, _dir: &TreeDir, _name: Name<'_>) -> io::Result<bool> {
        Ok(false)
    }

    fn stream(&self, wanted: &Wanted, sink: &mut dyn Write) -> Result<(), StoreError> {
        let sink_error = |source| StoreError::Sink { digest: wanted.digest, source };
        let content = self.0.open(wanted)?.read_all().map_err(sink_error)?;
        sink.write_all(&content).map_err(sink_error)
    }
}
