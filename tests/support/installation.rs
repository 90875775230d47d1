//! Where the PostgreSQL server's programs are and whom they run as.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::failure::{Failure, Result};

/// An installed PostgreSQL server.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The directory of `initdb` and `postgres`.
    pub bin: PathBuf,
    /// User and group for the server when this process is root, as which it
    /// refuses to run.
    pub owner: Option<(u32, u32)>,
}

impl Installation {
    /// Looks in `$RSOLV_TEST_PG_BIN`, on `PATH`, then in Debian's versioned
    /// folders, newest first.
    pub fn find() -> Result<Self> {
        let bin = match env::var_os("RSOLV_TEST_PG_BIN") {
            Some(chosen) => {
                let bin = PathBuf::from(chosen);
                if !has_server(&bin) {
                    let bin = bin.display();
                    let text = format!("RSOLV_TEST_PG_BIN={bin} has no initdb and postgres");
                    return Err(Failure::new(text));
                }
                bin
            }
            None => on_path().or_else(newest_of_debian).ok_or_else(|| {
                Failure::new(
                    "no PostgreSQL server found (initdb and postgres, on PATH or in\n\
                     /usr/lib/postgresql/*/bin). Get one with:\n  \
                     apt-get install postgresql\n\
                     or set RSOLV_TEST_PG_BIN to the directory of its programs.",
                )
            })?,
        };
        Ok(Self { bin, owner: owner()? })
    }

    /// A command for one of the server's programs, run as the right user from
    /// `directory`, with none of the caller's own PostgreSQL settings.
    pub fn command(&self, program: &str, directory: &Path) -> Command {
        self.program(self.bin.join(program), directory)
    }

    /// The same for a program that is not the server's own.
    pub fn program(&self, program: impl AsRef<OsStr>, directory: &Path) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(program);
        command.current_dir(directory).env("LC_ALL", "C").env_remove("TZ");
        for (name, _) in env::vars_os().filter(|(name, _)| is_libpq(name)) {
            command.env_remove(name);
        }
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }
}

/// Whether an environment variable is one that PostgreSQL's programs obey.
pub fn is_libpq(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("PG"))
}

fn has_server(bin: &Path) -> bool {
    bin.join("initdb").is_file() && bin.join("postgres").is_file()
}

fn on_path() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).find(|bin| has_server(bin))
}

fn newest_of_debian() -> Option<PathBuf> {
    std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let major: u32 = path.file_name()?.to_str()?.parse().ok()?;
            Some((major, path.join("bin")))
        })
        .filter(|(_, bin)| has_server(bin))
        .max()
        .map(|(_, bin)| bin)
}

/// The account the server runs under: our own unless we are root.
fn owner() -> Result<Option<(u32, u32)>> {
    // SAFETY: geteuid(2) cannot fail and touches no memory.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(None);
    }
    ["postgres", "nobody"].into_iter().find_map(account).map(Some).ok_or_else(|| {
        Failure::new(
            "PostgreSQL refuses to run as root, and there is no user postgres or\n\
             nobody to run it as; run this as an ordinary user.",
        )
    })
}

/// User and group of a local account.
fn account(name: &str) -> Option<(u32, u32)> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = accounts.lines().map(|line| line.split(':')).find_map(|mut fields| {
        (fields.next() == Some(name)).then_some(fields) // name : x : uid : gid
    })?;
    Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
}
