//! The life of a space: how it is mounted, served, used by commands and taken away.
