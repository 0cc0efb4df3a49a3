//! The names of a simulated disk: directories, and every state each has had since it was last synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use rand::rngs::SmallRng;

use super::content::{Content, Survival};
use crate::disk::Access;

/// `/`.
const ROOT: u64 = 0;

type Names = BTreeMap<String, u64>;

#[derive(Clone, Debug)]
enum Inode {
    /// The durable state first, the newest last; never empty.
    Directory(Vec<Names>),
    File(Content),
}

/// All inodes by number.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    inodes: BTreeMap<u64, Inode>,
    next: u64,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            inodes: [(ROOT, Inode::Directory(vec![Names::new()]))].into(),
            next: ROOT + 1,
        }
    }
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl Tree {
    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        let mut at = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                let name = name.to_string_lossy();
                at = *self
                    .directory(at)?
                    .get(&*name)
                    .ok_or_else(|| errno(libc::ENOENT))?;
            }
        }
        Ok(at)
    }

    fn directory(&self, id: u64) -> io::Result<&Names> {
        match self.inodes.get(&id) {
            Some(Inode::Directory(states)) => states.last().ok_or_else(|| errno(libc::ENOENT)),
            Some(Inode::File(_)) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    pub(super) fn file(&mut self, id: u64) -> io::Result<&mut Content> {
        match self.inodes.get_mut(&id) {
            Some(Inode::File(content)) => Ok(content),
            Some(Inode::Directory(_)) => Err(errno(libc::EISDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    /// The directory a path's last name is in, and that name.
    fn parent(&self, path: &Path) -> io::Result<(u64, String)> {
        let name = path.file_name().ok_or_else(|| errno(libc::EINVAL))?;
        let parent = self.find(path.parent().unwrap_or(Path::new("/")))?;
        Ok((parent, name.to_string_lossy().into_owned()))
    }

    fn change_names(&mut self, dir: u64, change: impl FnOnce(&mut Names)) -> io::Result<()> {
        let mut names = self.directory(dir)?.clone();
        change(&mut names);
        if let Some(Inode::Directory(states)) = self.inodes.get_mut(&dir) {
            states.push(names);
        }
        Ok(())
    }

    fn link(&mut self, path: &Path, inode: Inode) -> io::Result<u64> {
        let (dir, name) = self.parent(path)?;
        let id = self.next;
        self.change_names(dir, |names| {
            names.insert(name, id);
        })?;
        self.inodes.insert(id, inode);
        self.next += 1;
        Ok(id)
    }

    pub(super) fn open(&mut self, path: &Path, access: Access) -> io::Result<u64> {
        let id = match self.find(path) {
            Ok(id) => id,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match access {
                    Access::Read | Access::Write => Err(error),
                    Access::Create | Access::Replace => {
                        self.link(path, Inode::File(Content::default()))
                    }
                };
            }
            Err(error) => return Err(error),
        };
        let file = self.file(id)?;
        if access == Access::Replace {
            file.set_size(0);
        }
        Ok(id)
    }

    pub(super) fn open_handle(&mut self, inode: u64) -> io::Result<u64> {
        let handle = self.next;
        self.next += 1;
        self.file(inode)?.handles += 1;
        Ok(handle)
    }

    pub(super) fn close_handle(&mut self, inode: u64, handle: u64) {
        if let Ok(file) = self.file(inode) {
            file.unlock(handle);
            file.handles = file.handles.saturating_sub(1);
        }
    }

    pub(super) fn close_all(&mut self) {
        for inode in self.inodes.values_mut() {
            if let Inode::File(file) = inode {
                file.close_all();
            }
        }
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        if self.find(path).is_ok() {
            return Err(errno(libc::EEXIST));
        }
        self.link(path, Inode::Directory(vec![Names::new()]))
            .map(drop)
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        if self.find(path).is_ok() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.create_dir_all(parent)?;
        }
        self.create_dir(path)?;
        self.sync_parent(path)
    }

    pub(super) fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        Ok(self.directory(self.find(dir)?)?.keys().cloned().collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let ((dir, old), (other, new)) = (self.parent(from)?, self.parent(to)?);
        if dir != other {
            return Err(errno(libc::EXDEV));
        }
        let names = self.directory(dir)?;
        let id = *names.get(&old).ok_or_else(|| errno(libc::ENOENT))?;
        if let Some(replaced) = names.get(&new)
            && self
                .directory(*replaced)
                .is_ok_and(|names| !names.is_empty())
        {
            return Err(errno(libc::ENOTEMPTY));
        }
        self.change_names(dir, |names| {
            names.remove(&old);
            names.insert(new, id);
        })
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        self.file(id)?;
        self.unlink(path)
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        self.directory(self.find(path)?)?;
        self.unlink(path)
    }

    fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        self.change_names(dir, |names| {
            names.remove(&name);
        })
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        let id = self.find(dir)?;
        self.directory(id)?;
        if let Some(Inode::Directory(states)) = self.inodes.get_mut(&id) {
            states.drain(..states.len() - 1);
        }
        self.forget_unreachable();
        Ok(())
    }

    pub(super) fn sync_parent(&mut self, path: &Path) -> io::Result<()> {
        self.sync_dir(path.parent().unwrap_or(Path::new("/")))
    }

    /// Drops what no state of any directory names and nobody has open.
    fn forget_unreachable(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut next = vec![ROOT];
        while let Some(id) = next.pop() {
            let Some(Inode::Directory(states)) = self.inodes.get(&id) else {
                continue;
            };
            for child in states.iter().flat_map(Names::values) {
                if reached.insert(*child) {
                    next.push(*child);
                }
            }
        }
        self.inodes.retain(|id, inode| {
            reached.contains(id) || matches!(inode, Inode::File(file) if file.handles > 0)
        });
    }

    /// Leaves what a power cut leaves.
    pub(super) fn crash(&mut self, survival: Survival, random: &mut SmallRng) {
        for inode in self.inodes.values_mut() {
            match inode {
                Inode::File(file) => file.crash(survival, random),
                Inode::Directory(states) => {
                    let survivor = survival.surviving(states.len() - 1, random);
                    *states = vec![states.swap_remove(survivor)];
                }
            }
        }
        self.forget_unreachable();
    }
}
