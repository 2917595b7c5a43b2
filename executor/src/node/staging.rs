//! Memory images on their way: private folders, opened to CRIU alone, and overwritten before they go. They hold all secrets
//! that a service has in memory.

use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use crate::transfer::holes::next_data;
use crate::transfer::tree::at;

/// Makes a folder that only its owner can look into.
///
/// # Errors
/// When it can't be made.
pub fn private_folder(path: &Path) -> io::Result<()> {
    make_folder(path, 0o700)
}

/// Makes the folder in which memory images are staged, each in a private folder of its own. CRIU passes through it as the
/// service's root, so it can be passed but not listed.
///
/// # Errors
/// When it can't be made.
pub fn staging_folder(path: &Path) -> io::Result<()> {
    make_folder(path, 0o711)
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|error| at(path, error))
}

/// Lets CRIU open a memory image: it does so first as the node's root without its powers, and then as the user that is root
/// in the service. So the first is the owner, the second the group, and nobody else sees anything.
///
/// # Errors
/// When an owner can't be changed, or something that is no regular file is in it.
pub fn hand_over(image: &Path, layer: &Path) -> io::Result<()> {
    let group = Some(std::fs::metadata(layer)?.gid());
    let open = |path: &Path, mode| {
        std::os::unix::fs::lchown(path, None, group)?;
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    };
    for entry in std::fs::read_dir(image)? {
        let entry = entry?;
        // CRIU would follow a link, as root and for writing too.
        if !entry.file_type()?.is_file() {
            let what = format!("{} is no regular file", entry.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        open(&entry.path(), 0o640)?;
    }
    open(image, 0o750)
}

/// Removes a folder with all that is in it, each file overwritten first; there need not be one. What lies in RAM is gone with
/// that. A disk may keep copies of its own: that is why images are best staged in RAM.
///
/// # Errors
/// When something can't be overwritten or removed; what could be is.
pub async fn shred(folder: PathBuf) -> io::Result<()> {
    tokio::task::spawn_blocking(move || shred_now(&folder)).await.map_err(io::Error::other)?
}

fn shred_now(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| at(folder, error))?,
    };
    let mut first_error = Ok(());
    for entry in entries {
        let path = entry.map_err(|error| at(folder, error))?.path();
        let gone = std::fs::symlink_metadata(&path).and_then(|meta| {
            if meta.is_dir() {
                return shred_now(&path);
            }
            if meta.is_file() {
                overwrite(&path, &meta)?;
            }
            std::fs::remove_file(&path)
        });
        if let Err(error) = gone
            && error.kind() != io::ErrorKind::NotFound
            && first_error.is_ok()
        {
            first_error = Err(at(&path, error));
        }
    }
    first_error?;
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(folder, error)),
        _ => Ok(()),
    }
}

/// What is written at once.
const PIECE: usize = 1 << 20;

/// Overwrites what a file takes on its disk. Holes stay holes.
fn overwrite(path: &Path, meta: &Metadata) -> io::Result<()> {
    let file = File::options().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    if meta.nlink() > 1 || meta.blocks() == 0 {
        return Ok(());
    }
    let zeros = vec![0; PIECE];
    let mut at = 0;
    // A memory image that was sent ahead is as long as all addresses, nearly all of it holes.
    while let Some(data) = next_data(&file, at, meta.len())? {
        at = data.start;
        while at < data.end {
            let piece = zeros.len().min(usize::try_from(data.end - at).unwrap_or(usize::MAX));
            file.write_all_at(&zeros[..piece], at)?;
            at += piece as u64;
        }
    }
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn images_are_overwritten_before_they_go() {
        let outer = tempfile::tempdir().unwrap();
        let image = outer.path().join("out-1");
        private_folder(&image).unwrap();
        assert_eq!(std::fs::metadata(&image).unwrap().mode() & 0o777, 0o700);
        let secret = vec![7; 3 * PIECE + 5];
        std::fs::write(image.join("pages-1.img"), &secret).unwrap();
        std::fs::create_dir(image.join("sub")).unwrap();
        std::fs::write(image.join("sub/b"), "x").unwrap();
        std::fs::write(outer.path().join("other"), "kept").unwrap();
        std::os::unix::fs::symlink(outer.path().join("other"), image.join("link")).unwrap();
        // Whoever has it open sees what is left of it.
        let open = File::open(image.join("pages-1.img")).unwrap();
        shred(image.clone()).await.unwrap();
        let mut left = vec![1; secret.len()];
        open.read_exact_at(&mut left, 0).unwrap();
        assert!(left.iter().all(|byte| *byte == 0));
        assert!(!image.exists());
        assert_eq!(std::fs::read(outer.path().join("other")).unwrap(), b"kept");
        shred(image).await.unwrap();
    }

    #[tokio::test]
    async fn holes_are_not_filled_before_they_go() {
        let outer = tempfile::tempdir_in("/dev/shm").unwrap();
        let image = outer.path().join("ahead-1");
        private_folder(&image).unwrap();
        let file = File::create(image.join("pages-1.img")).unwrap();
        // Written in full it would fill any disk.
        file.set_len(1 << 47).unwrap();
        for at in [1 << 12, 1 << 46] {
            file.write_all_at(&[7; 5000], at).unwrap();
        }
        let open = File::open(image.join("pages-1.img")).unwrap();
        shred(image).await.unwrap();
        let mut left = [1; 5000];
        open.read_exact_at(&mut left, 1 << 46).unwrap();
        assert_eq!(left, [0; 5000]);
        assert!(open.metadata().unwrap().blocks() * 512 <= 6 * 4096);
    }

    #[test]
    fn a_memory_image_with_a_link_in_it_is_not_opened() {
        let (outer, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        std::fs::write(image.path().join("core-1.img"), "x").unwrap();
        hand_over(image.path(), image.path()).unwrap();
        assert_eq!(mode(&image.path().join("core-1.img")), 0o640);
        let precious = outer.path().join("precious");
        std::fs::write(&precious, "x").unwrap();
        std::fs::set_permissions(&precious, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&precious, image.path().join("restore.log")).unwrap();
        hand_over(image.path(), image.path()).unwrap_err();
        assert_eq!(mode(&precious), 0o600);
    }
}
