//! Nothing: this package exists for its lock file (see Cargo.toml).
