//! Keeping a hololib and its spaces in order: [`verify`] reads everything, [`collect`] removes what nothing uses, [`delete`]
//! removes one space.

pub mod collect;
pub mod delete;
pub mod verify;
