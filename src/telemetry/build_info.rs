//! What the program was built from.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit, or `unknown` when it was built outside a repository.
pub const REVISION: &str = env!("BUILD_REVISION");
/// The day of that commit.
pub const DATE: &str = env!("BUILD_DATE");
/// The version of the compiler.
pub const RUSTC: &str = env!("BUILD_RUSTC");
/// All of it, as `--version` prints it after the name.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision ",
    env!("BUILD_REVISION"),
    ", ",
    env!("BUILD_DATE"),
    ", rustc ",
    env!("BUILD_RUSTC"),
    ")"
);
