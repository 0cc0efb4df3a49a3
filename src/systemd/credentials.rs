//! Files the service manager hands over for this service alone.

use std::path::{Path, PathBuf};

/// The path of a credential, if the manager passed one of this name (`LoadCredential=etcd.server-key:...`).
/// Its content does not change while the service runs, not even on reload.
pub fn credential(name: &str) -> Option<PathBuf> {
    in_directory(
        std::env::var_os("CREDENTIALS_DIRECTORY")
            .as_ref()
            .map(Path::new)?,
        name,
    )
}

fn in_directory(directory: &Path, name: &str) -> Option<PathBuf> {
    // A name, not a path: nobody may read elsewhere through this.
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return None;
    }
    let path = directory.join(name);
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_names_in_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("etcd.server-key"), "x").unwrap();
        let found = in_directory(dir.path(), "etcd.server-key");
        assert_eq!(found, Some(dir.path().join("etcd.server-key")));
        assert_eq!(in_directory(dir.path(), "absent"), None);
        assert_eq!(
            in_directory(&dir.path().join("sub"), "../etcd.server-key"),
            None
        );
    }
}
