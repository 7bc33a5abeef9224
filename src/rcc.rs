//! RCC's files and names, as RCC reads and writes them.
//!
//! `rcc-format` is the reference; nothing here knows how HoloFS stores or serves content.

pub mod blueprint;
pub mod catalog;
pub mod digest;
pub mod home;
pub mod yaml;
