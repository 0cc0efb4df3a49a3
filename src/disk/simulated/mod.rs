//! A disk in memory whose power can be cut.
//!
//! It keeps what is durable apart from what was only written. [`SimulatedDisk::crash`] decides, from a seed,
//! what of the rest survived: for every sector one of the contents it has had since the last sync, for every
//! file one of its sizes, for every directory one of its states. Nothing else is ever possible on a disk
//! that writes sectors whole and keeps what it was told to sync; a program that survives every seed survives
//! the file systems in use, which tear less.
//!
//! Calls are counted, and the n-th can be made to fail ([`SimulatedDisk::fail_after`]) or to be the last one
//! before the lights go out. No threads, no clock; the same seed gives the same disk.
//!
//! Deliberately absent: hard links, renames from one directory to another, permissions.

mod content;
mod tree;

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::{Access, Disk, DiskFile};
use content::Survival;
use tree::Tree;

/// What happens to a call that was chosen to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`; half of a write is done.
    InputOutput,
    /// `ENOSPC`; half of a write is done.
    NoSpace,
    /// Nothing answers any more until [`SimulatedDisk::crash`].
    PowerCut,
}

/// A simulated disk; clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<Machine>>);

#[derive(Clone, Debug, Default)]
struct Machine {
    tree: Tree,
    calls: u64,
    fault: Option<(u64, Fault)>,
    off: bool,
    /// Counts crashes: files opened before the last one are dead.
    boot: u64,
}

impl SimulatedDisk {
    /// An empty disk with `/` on it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a directory and those above it, durably.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.lock().tree.create_dir_all(path)
    }

    /// Calls made so far.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// Makes the call after the next `calls` ones fail, once.
    pub fn fail_after(&self, calls: u64, fault: Fault) {
        let mut machine = self.0.lock();
        machine.fault = Some((machine.calls + calls + 1, fault));
    }

    /// Takes back [`SimulatedDisk::fail_after`].
    pub fn fail_never(&self) {
        self.0.lock().fault = None;
    }

    /// Cuts the power and turns it on again: open files are dead, locks are gone, and what was not synced
    /// survives as `seed` has it.
    pub fn crash(&self, seed: u64) {
        let mut machine = self.0.lock();
        let mut random = SmallRng::seed_from_u64(seed);
        let survival = Survival::draw(&mut random);
        machine.tree.crash(survival, &mut random);
        machine.boot += 1;
        machine.off = false;
        machine.fault = None;
    }

    /// A disk of its own with the same content, durable and not; no file on it is open and no call will fail.
    pub fn fork(&self) -> Self {
        let mut machine = self.0.lock().clone();
        machine.fault = None;
        machine.off = false;
        machine.tree.close_all();
        machine.boot += 1;
        Self(Arc::new(Mutex::new(machine)))
    }

    /// A file's content as a reader would see it now.
    pub fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut machine = self.0.lock();
        let id = machine.tree.find(path)?;
        Ok(machine.tree.file(id)?.content().to_vec())
    }

    /// Puts a file there, durably, with its directories.
    pub fn put(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut machine = self.0.lock();
        if let Some(dir) = path.parent() {
            machine.tree.create_dir_all(dir)?;
        }
        let id = machine.tree.open(path, Access::Replace)?;
        machine.tree.file(id)?.put(content);
        machine.tree.sync_parent(path)
    }

    /// Runs one call, unless its turn to fail has come: then `failing` is what it still does.
    fn call<T>(
        &self,
        opened_in: Option<u64>,
        work: impl FnOnce(&mut Tree) -> io::Result<T>,
        failing: impl FnOnce(&mut Tree, Fault),
    ) -> io::Result<T> {
        let machine = &mut *self.0.lock();
        if machine.off || opened_in.is_some_and(|boot| boot != machine.boot) {
            return Err(io::Error::other("the power is off"));
        }
        machine.calls += 1;
        let Some((_, fault)) = machine.fault.take_if(|(call, _)| *call == machine.calls) else {
            return work(&mut machine.tree);
        };
        failing(&mut machine.tree, fault);
        Err(match fault {
            Fault::InputOutput => io::Error::from_raw_os_error(libc::EIO),
            Fault::NoSpace => io::Error::from_raw_os_error(libc::ENOSPC),
            Fault::PowerCut => {
                machine.off = true;
                io::Error::other("the power is off")
            }
        })
    }

    /// A call that changes names. In a power cut it may still have been done.
    fn change_names(&self, work: impl Fn(&mut Tree) -> io::Result<()>) -> io::Result<()> {
        self.call(None, &work, |tree, fault| {
            if fault == Fault::PowerCut {
                let _ = work(tree);
            }
        })
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let (inode, handle) = self.call(
            None,
            |tree| {
                let inode = tree.open(path, access)?;
                Ok((inode, tree.open_handle(inode)?))
            },
            |_, _| {},
        )?;
        let boot = self.0.lock().boot;
        Ok(Box::new(SimulatedFile {
            disk: self.clone(),
            inode,
            handle,
            boot,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change_names(|tree| tree.create_dir(path))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.call(None, |tree| tree.names(dir), |_, _| {})
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change_names(|tree| tree.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change_names(|tree| tree.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change_names(|tree| tree.remove_dir_all(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(None, |tree| tree.sync_dir(dir), |_, _| {})
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
    handle: u64,
    boot: u64,
}

impl SimulatedFile {
    fn call<T>(&self, work: impl FnOnce(&mut Tree) -> io::Result<T>) -> io::Result<T> {
        self.disk.call(Some(self.boot), work, |_, _| {})
    }
}

impl DiskFile for SimulatedFile {
    fn size(&self) -> io::Result<u64> {
        self.call(|tree| Ok(tree.file(self.inode)?.content().len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.call(|tree| {
            let content = tree.file(self.inode)?.content();
            let rest = content.get(offset as usize..).unwrap_or_default();
            let read = rest.len().min(buffer.len());
            buffer[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.call(
            Some(self.boot),
            |tree| {
                tree.file(self.inode)?.write(offset, bytes);
                Ok(())
            },
            |tree, fault| {
                if let Ok(file) = tree.file(self.inode) {
                    file.write(offset, done_before(fault, offset, bytes));
                }
            },
        )
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.call(|tree| {
            tree.file(self.inode)?.set_size(size);
            Ok(())
        })
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.call(|tree| {
            let file = tree.file(self.inode)?;
            let now = file.content().len() as u64;
            file.set_size(now.max(size));
            Ok(())
        })
    }

    fn clear_from(&self, offset: u64, size: u64) -> io::Result<()> {
        self.call(|tree| {
            let file = tree.file(self.inode)?;
            file.clear_from(offset);
            file.set_size(size);
            Ok(())
        })
    }

    fn prepare(&self, offset: u64, bytes: usize) -> io::Result<bool> {
        self.write_at(&vec![0; bytes], offset)?;
        Ok(true)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(|tree| {
            tree.file(self.inode)?.sync();
            Ok(())
        })
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.call(|tree| Ok(tree.file(self.inode)?.lock(self.handle)))
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut machine = self.disk.0.lock();
        if machine.boot == self.boot {
            machine.tree.close_handle(self.inode, self.handle);
        }
    }
}

/// What a failing write still writes: all of it when the power goes (the crash decides what stays), else
/// half, to a sector's end as a full disk has it.
fn done_before(fault: Fault, offset: u64, bytes: &[u8]) -> &[u8] {
    let half = offset + bytes.len() as u64 / 2;
    let end = (half - half % super::SECTOR_BYTES).saturating_sub(offset) as usize;
    match fault {
        Fault::PowerCut => bytes,
        Fault::InputOutput | Fault::NoSpace => bytes.get(..end).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn disk() -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk
    }

    /// Every content a file can have after a crash, over many seeds.
    fn outcomes(disk: &SimulatedDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
        (0..500)
            .map(|seed| {
                let disk = disk.fork();
                disk.crash(seed);
                disk.content(Path::new(path)).ok()
            })
            .collect()
    }

    #[test]
    fn a_sector_survives_in_one_of_its_contents() {
        let disk = disk();
        let file = disk.open(Path::new("/d/f"), Access::Create).unwrap();
        file.write_at(&[1; 1024], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(&[2; 100], 500).unwrap();
        let halves = outcomes(&disk, "/d/f")
            .into_iter()
            .map(|content| {
                let content = content.expect("the name was synced");
                assert_eq!(content.len(), 1024);
                (content[500..512].to_vec(), content[512..600].to_vec())
            })
            .collect::<BTreeSet<_>>();
        let (old, new) = ((vec![1; 12], vec![1; 88]), (vec![2; 12], vec![2; 88]));
        let torn = [
            (new.0.clone(), old.1.clone()),
            (old.0.clone(), new.1.clone()),
        ];
        assert_eq!(
            halves,
            BTreeSet::from_iter([old, new].into_iter().chain(torn))
        );
        file.sync_data().unwrap();
        assert_eq!(outcomes(&disk, "/d/f").len(), 1);
    }

    #[test]
    fn a_name_survives_only_when_its_directory_was_synced() {
        let disk = disk();
        let file = disk.open(Path::new("/d/a"), Access::Create).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(
            outcomes(&disk, "/d/a"),
            BTreeSet::from([None, Some(b"x".to_vec())])
        );
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
        for name in ["/d/a", "/d/b"] {
            assert_eq!(
                outcomes(&disk, name),
                BTreeSet::from([None, Some(b"x".to_vec())])
            );
        }
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(
            outcomes(&disk, "/d/b"),
            BTreeSet::from([Some(b"x".to_vec())])
        );
    }

    #[test]
    fn sizes_tear_too() {
        let disk = disk();
        let file = disk.open(Path::new("/d/f"), Access::Create).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(&[1; 512], 0).unwrap();
        file.sync_data().unwrap();
        file.clear_from(256, 2048).unwrap();
        let sizes = outcomes(&disk, "/d/f")
            .into_iter()
            .flatten()
            .map(|content| content.len());
        assert_eq!(sizes.collect::<BTreeSet<_>>(), BTreeSet::from([512, 2048]));
    }

    #[test]
    fn faults_come_at_their_call_and_a_power_cut_stays() {
        let disk = disk();
        let file = disk.open(Path::new("/d/f"), Access::Create).unwrap();
        disk.fail_after(1, Fault::NoSpace);
        file.write_at(&[1; 10], 0).unwrap();
        let error = file.write_at(&[2; 2048], 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(disk.content(Path::new("/d/f")).unwrap(), vec![2; 1024]);
        disk.fail_after(0, Fault::PowerCut);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap_err();
        disk.open(Path::new("/d/f"), Access::Read).unwrap_err();
        disk.crash(1);
        file.size().unwrap_err();
        assert_eq!(disk.names(Path::new("/")).unwrap(), ["d"]);
    }

    #[test]
    fn locks_end_with_their_file_and_with_the_power() {
        let disk = disk();
        let open = || disk.open(Path::new("/d/f"), Access::Create).unwrap();
        let (first, second) = (open(), open());
        assert!(first.try_lock().unwrap() && !second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.crash(0);
        assert!(open().try_lock().unwrap());
        drop(second);
    }
}
