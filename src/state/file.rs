//! The state's place on disk, also where other users can write to its folder: whatever they put there is not followed,
//! written to or waited for.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{State, encode};

/// What is made here is for the exporter's user alone.
const MODE: u32 = 0o600;

/// The place of the state, held for this process alone.
#[derive(Debug)]
pub struct StateFile {
    /// What it was asked for, with links resolved: the link stays, the file behind it is replaced.
    path: PathBuf,
    /// Locked until it is closed; none where that cannot be done.
    _lock: Option<File>,
    /// True once it was said that the file system cannot write through to the disk.
    is_unsynced: AtomicBool,
}

impl StateFile {
    /// Takes the place.
    ///
    /// # Errors
    /// Fails if another process has it, or if there is no such folder.
    pub fn lock(path: &Path) -> io::Result<Self> {
        let path = &resolved(path)?;
        let folder = folder(path);
        match fs::metadata(folder) {
            Ok(found) if found.is_dir() => {}
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(explained("look into", folder, e)),
            _ => {
                let message = format!("there is no folder {}: make it, or name another one", folder.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, message));
            }
        }
        if is_shared(folder) {
            tracing::warn!(
                folder = %folder.display(),
                "other users can write to the folder of the state, and so remove or replace it: give it a folder of its own"
            );
        }
        let lock = PathBuf::from(format!("{}.lock", path.display()));
        let lock = match open_lock(&lock) {
            Ok(file) => match file.try_lock() {
                Ok(()) => Some(file),
                Err(TryLockError::WouldBlock) => {
                    let message = "another rsolv-exporter uses it: give each a state.file of its own";
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
                }
                Err(TryLockError::Error(e)) => without_lock(&lock, &e),
            },
            // Nothing can be made there: saving will tell, and nobody else can save either.
            Err(_) if fs::symlink_metadata(&lock).is_err() => None,
            Err(e) => without_lock(&lock, &e),
        };
        Ok(Self { path: path.to_owned(), _lock: lock, is_unsynced: AtomicBool::default() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if another user made what is there, in a folder where anybody can.
    pub fn is_foreign(&self) -> bool {
        is_shared(folder(&self.path)) && fs::symlink_metadata(&self.path).is_ok_and(|found| !is_trusted(found.uid()))
    }

    /// Puts what is there aside, as `.bad` in place of an earlier one, so that saving does not replace it.
    ///
    /// # Errors
    /// Fails if it cannot be renamed.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = PathBuf::from(format!("{}.bad", self.path.display()));
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    /// Makes the file that saving begins with, and takes it away again.
    ///
    /// # Errors
    /// Fails if saving would.
    pub fn try_to_write(&self) -> io::Result<()> {
        let temporary = self.temporary();
        create_anew(&temporary).and_then(|_| fs::remove_file(&temporary)).map_err(|e| explained("write", &temporary, e))
    }

    fn temporary(&self) -> PathBuf {
        PathBuf::from(format!("{}.new", self.path.display()))
    }

    /// Writes through to the disk. Some network and FUSE file systems cannot, for folders or at all: what was written there
    /// counts as saved.
    fn sync(&self, file: &File) -> io::Result<()> {
        match file.sync_all() {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS)) => {
                if !self.is_unsynced.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        path = %self.path.display(),
                        "the file system of the state does not support fsync ({e}): a power cut can lose the last state saved"
                    );
                }
                Ok(())
            }
            synced => synced,
        }
    }

    /// Replaces what is saved.
    ///
    /// # Errors
    /// Fails if it cannot be written; what was saved before is still there then.
    pub fn save(&self, state: &State) -> io::Result<()> {
        let (head, json) = encode(state)?;
        let temporary = self.temporary();
        let written = (|| {
            let folder = folder(&self.path);
            let to_write = |e| explained("write", &temporary, e);
            let mut file = create_anew(&temporary).map_err(to_write)?;
            file.write_all(head.as_bytes()).and_then(|()| file.write_all(&json)).map_err(to_write)?;
            self.sync(&file).map_err(to_write)?;
            fs::rename(&temporary, &self.path).map_err(|e| explained("replace", &self.path, e))?;
            File::open(folder).and_then(|folder| self.sync(&folder)).map_err(|e| explained("sync", folder, e))
        })();
        if written.is_err() {
            // Half a file would take the room that the next attempt needs; when it is not there, all the better.
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// Goes on without a lock.
fn without_lock(lock: &Path, e: &io::Error) -> Option<File> {
    tracing::warn!(
        path = %lock.display(),
        "the state cannot be locked: {e}; a second rsolv-exporter with this state.file would not be noticed, and each would \
         replace what the other has counted: see to it that there is one"
    );
    None
}

/// What could not be done, where, and what helps.
fn explained(what: &str, path: &Path, e: io::Error) -> io::Error {
    let remedy = match e.raw_os_error() {
        Some(libc::EROFS) => ": its file system is read-only: mount it for writing, or move state.file".to_owned(),
        Some(libc::ENOSPC | libc::EDQUOT) => ": make room there, or move state.file".to_owned(),
        Some(libc::EACCES | libc::EPERM) => {
            let user =
                fs::metadata("/proc/self").map_or("the exporter's user".to_owned(), |us| format!("user {}", us.uid()));
            let folder = if path.is_dir() { path } else { folder(path) }.display();
            format!(
                ": let {user} write to {folder} (chown, chmod); if it may, look for a denial by SELinux or AppArmor"
            )
        }
        _ => String::new(),
    };
    io::Error::new(e.kind(), format!("cannot {what} {}: {e}{remedy}", path.display()))
}

/// All of a regular file; fails at once for anything that could be waited for, such as a pipe.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A new file under a name that may be taken by what a killed process left, or by what someone else put there: that is
/// removed, and neither followed nor written to.
fn create_anew(path: &Path) -> io::Result<File> {
    match create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create(path)
        }
        created => created,
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)
}

/// The lock file as an exporter makes it; what does not look like that is replaced.
fn open_lock(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    loop {
        match open() {
            Ok(file) => {
                let found = file.metadata()?;
                if found.is_file() && found.mode() & 0o077 == 0 && found.nlink() == 1 {
                    return Ok(file);
                }
                fs::remove_file(path)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // It can be that of an exporter of another user.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(e),
            Err(_) => fs::remove_file(path)?,
        }
        match create(path) {
            // Another process was faster.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created,
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Follows symbolic links, also to a file that does not exist yet; not those of others in a folder where anybody can make
/// them.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else {
            // No link, or nothing: opening it will tell.
            return Ok(path);
        };
        if is_shared(folder(&path)) && !is_trusted(fs::symlink_metadata(&path)?.uid()) {
            let message = format!("{} is a link that another user made: remove it", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        path = folder(&path).join(target);
    }
    Err(io::Error::other("too many symbolic links"))
}

/// True if users other than the exporter's can make files in a folder. Its own group does not count: it is how volumes of
/// containers are handed over.
fn is_shared(folder: &Path) -> bool {
    let (Ok(folder), Ok(us)) = (fs::metadata(folder), fs::metadata("/proc/self")) else { return false };
    folder.mode() & 0o002 != 0 || folder.mode() & 0o020 != 0 && folder.gid() != us.gid()
}

/// True for the exporter's user, whom `/proc/self` belongs to, and for root.
fn is_trusted(user: u32) -> bool {
    user == 0 || fs::metadata("/proc/self").is_ok_and(|us| us.uid() == user)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::state::load;

    /// Not root, and not whoever runs the tests.
    const STRANGER: u32 = 54_321;

    /// Puts something at a path; the second one names a file that it may point to.
    type Plant = fn(&Path, &Path);

    fn pipe(path: &Path) {
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the name is a C string that lives through the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o666) }, 0);
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert!(matches!(load(&path), Err(crate::state::LoadError::Absent)));
        let file = StateFile::lock(&path).unwrap();
        file.save(&State::default()).unwrap();
        assert_eq!(
            serde_json::to_value(load(&path).unwrap()).unwrap(),
            serde_json::to_value(State::default()).unwrap()
        );
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = StateFile::lock(&path).unwrap();
        assert_eq!(StateFile::lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        assert!(StateFile::lock(&path).is_ok());
        assert!(
            StateFile::lock(&folder.path().join("no/state")).unwrap_err().to_string().contains("there is no folder")
        );
    }

    #[test]
    fn a_link_stays_one_and_the_file_behind_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (folder.path().join("link"), folder.path().join("disk/state"));
        fs::create_dir(folder.path().join("disk")).unwrap();
        symlink("disk/state", &link).unwrap();
        for _ in 0..2 {
            let held = StateFile::lock(&link).unwrap();
            assert_eq!(StateFile::lock(&file).unwrap_err().kind(), io::ErrorKind::WouldBlock, "it is one place");
            held.save(&State::default()).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new("disk/state"));
            assert!(load(&file).is_ok() && load(&link).is_ok());
        }
        let round = folder.path().join("round");
        symlink("round", &round).unwrap();
        assert!(StateFile::lock(&round).unwrap_err().to_string().contains("too many symbolic links"));
    }

    /// In a folder that others can write to, with everything there beforehand that they can think of.
    #[test]
    fn what_others_put_there_is_not_followed_written_to_or_waited_for() {
        let plants: [(&str, Plant); 5] = [
            ("link", |path, victim| symlink(victim, path).unwrap()),
            ("dangling link", |path, victim| symlink(victim.with_extension("none"), path).unwrap()),
            ("open file", |path, _| {
                fs::write(path, "x").unwrap();
                fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
            }),
            ("pipe", |path, _| pipe(path)),
            ("socket", |path, _| drop(UnixListener::bind(path).unwrap())),
        ];
        for (what, plant) in plants {
            let folder = tempfile::tempdir().unwrap();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
            let (path, victim) = (folder.path().join("state"), folder.path().join("victim"));
            fs::write(&victim, "precious").unwrap();
            for name in ["state.new", "state.lock"] {
                plant(&folder.path().join(name), &victim);
            }
            let file = StateFile::lock(&path).unwrap();
            assert_eq!(StateFile::lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock, "{what}: it is locked");
            file.try_to_write().unwrap();
            plant(&folder.path().join("state.new"), &victim);
            file.save(&State::default()).unwrap();
            for name in ["state", "state.lock"] {
                let found = fs::symlink_metadata(folder.path().join(name)).unwrap();
                assert!(found.is_file() && found.mode() & 0o777 == MODE, "{what}: {name} {:o}", found.mode());
            }
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{what}");
            assert!(!victim.with_extension("none").exists(), "{what}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        pipe(&path);
        assert_eq!(load(&path).unwrap_err().to_string(), "cannot be read: it is no regular file");
    }

    /// Only root can make files of others.
    #[test]
    fn in_a_shared_folder_files_and_links_of_others_are_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("state"), folder.path().join("link"));
        fs::write(&path, "x").unwrap();
        symlink("state", &link).unwrap();
        if chown(&path, Some(STRANGER), None).is_err()
            || std::os::unix::fs::lchown(&link, Some(STRANGER), None).is_err()
        {
            return;
        }
        for (mode, is_shared) in [(0o755, false), (0o777, true), (0o1777, true)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(StateFile::lock(&path).unwrap().is_foreign(), is_shared, "{mode:o}");
            assert_eq!(StateFile::lock(&link).is_err(), is_shared, "{mode:o}");
        }
    }
}
