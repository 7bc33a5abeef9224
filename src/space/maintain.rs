//! Maintenance of a hololib and its spaces: [`verify`] reads everything, [`collect`] removes what is unused, [`delete`] removes one
//! space.

pub mod collect;
pub mod delete;
pub mod verify;
