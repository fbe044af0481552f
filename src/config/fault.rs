//! What is wrong with the settings: each fault names its key and where it was written, and never the value, because a value
//! may be a secret.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The setting, such as `pool.cap`. Empty when a whole file can't be read.
    pub key: String,
    /// Where it was written: a file and line, a variable, a flag, or `default`.
    pub origin: String,
    /// What is wrong and what would be right.
    pub text: String,
}

impl Fault {
    pub(super) fn new(key: impl Into<String>, origin: impl Into<String>, text: impl Into<String>) -> Self {
        Self { key: key.into(), origin: origin.into(), text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(formatter, "{}: {}", self.origin, self.text)
        } else {
            write!(formatter, "{} ({}): {}", self.key, self.origin, self.text)
        }
    }
}

/// The settings can't be used; holds every fault that was found, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// All faults, ordered by key.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            1 => formatter.write_str("1 fault in the settings")?,
            count => write!(formatter, "{count} faults in the settings")?,
        }
        self.faults.iter().try_for_each(|fault| write!(formatter, "\n  {fault}"))
    }
}
