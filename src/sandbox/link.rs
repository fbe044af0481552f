//! The connection a supervisor keeps to us, seen from the server. (stub)
