//! (room not furnished yet)

pub mod keys;
