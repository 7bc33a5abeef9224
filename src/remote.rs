//! Remote environments: in a registry, in a bucket, in a directory, or on a web server.
//!
//! ```text
//! ref ──▶ head: the catalog as RCC wrote it, the packs, where each blob's frames are      (trust starts at the head's SHA-256)
//!           └──▶ packs: objects of about 16 MiB, frames of one file or of 256 KiB of one, each compressed separately
//! ```
//! Every object but a ref is named by its SHA-256 and never changes. Everything a remote sends is verified, never trusted: a head by
//! its digest, a frame by the digest of its chunk or file; and a file enters the library or the raw store only through the one
//! function that verifies all of it ([`crate::store::publish_verified`]).
//!
//! Nothing here reads environment variables, prints, or decides how long a user waits: the command line does.

pub mod address;
pub mod breaker;
pub mod bytecode;
pub mod checks;
pub mod collect;
pub mod download;
pub mod error;
pub mod fetch;
#[cfg(unix)]
pub mod fetcher;
pub mod frame;
pub mod head;
#[cfg(unix)]
pub mod http_head;
pub mod lazy;
#[cfg(unix)]
pub mod line;
pub mod object;
pub mod profile;
pub mod pull;
pub mod push;
pub mod rccremote;
pub mod reference;
pub mod resolve;
pub mod signature;
pub mod staging;
pub mod transport;
pub mod verify;
mod wire;

pub use address::Address;
pub use error::RemoteError;
pub use head::Head;
pub use object::ObjectId;
pub use reference::Reference;
