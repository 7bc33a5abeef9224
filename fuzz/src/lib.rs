//! What the fuzz targets call, as a library.

pub mod targets;
