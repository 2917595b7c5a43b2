//! The pages of a dump, hashed while CRIU still writes them.
//!
//! What was sent ahead is compared with the dump by the hash of every page, and the service stands frozen meanwhile. CRIU only
//! ever appends to its files of pages, so they are hashed behind its back, on another processor: that is over soon after the
//! dump is.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::engine::criu::pagemap::PAGE;

use super::ahead::{Page, page};
use super::tree::at;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
/// Between two looks at a dump that has written nothing new.
const LOOK: Duration = Duration::from_millis(1);

/// The hashes of all pages of an image, by file, in the order in which they stand there.
#[derive(Debug, Default)]
pub struct Hashed(HashMap<OsString, (File, Vec<Page>)>);

impl Hashed {
    /// Hashes an image that is whole.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(image: &Path) -> io::Result<Self> {
        let mut hashed = Self::default();
        while hashed.catch_up(image, &mut vec![0; PIECE])? {}
        Ok(hashed)
    }

    /// The pages of one file.
    pub fn of(&self, file: &OsStr) -> &[Page] {
        self.0.get(file).map_or(&[], |(_, pages)| pages)
    }

    /// Hashes what is new, and tells whether there was anything.
    fn catch_up(&mut self, image: &Path, buffer: &mut [u8]) -> io::Result<bool> {
        let mut new = false;
        for entry in std::fs::read_dir(image).map_err(|error| at(image, error))? {
            let name = entry?.file_name();
            if !is_of_pages(&name) {
                continue;
            }
            let path = image.join(&name);
            if !self.0.contains_key(&name) {
                let open = File::options().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path);
                self.0.insert(name.clone(), (open.map_err(|error| at(&path, error))?, Vec::new()));
            }
            let Some((file, pages)) = self.0.get_mut(&name) else { continue };
            new |= append(file, pages, buffer).map_err(|error| at(&path, error))?;
        }
        Ok(new)
    }
}

fn is_of_pages(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("pages-") && name.ends_with(".img"))
}

/// Hashes the whole pages that are new in a file, and tells whether there were any.
fn append(file: &File, pages: &mut Vec<Page>, buffer: &mut [u8]) -> io::Result<bool> {
    let before = pages.len();
    loop {
        let read = file.read_at(buffer, pages.len() as u64 * PAGE)?;
        pages.extend(buffer[..read].chunks_exact(PAGE as usize).map(page));
        // What is left of a page is not yet written whole.
        if read < PAGE as usize {
            return Ok(pages.len() > before);
        }
    }
}

/// A dump that is being hashed. Given up, it ends by itself.
#[derive(Debug)]
pub struct Hashing {
    written: Arc<AtomicBool>,
    work: Option<JoinHandle<io::Result<Hashed>>>,
}

impl Hashing {
    /// Begins with an image that is about to be written.
    pub fn begin(image: PathBuf) -> Self {
        let written = Arc::new(AtomicBool::new(false));
        let is_written = Arc::clone(&written);
        let work = tokio::task::spawn_blocking(move || {
            let (mut hashed, mut buffer) = (Hashed::default(), vec![0; PIECE]);
            loop {
                // In this order: what was written before it was said to be is met.
                let whole = is_written.load(Ordering::Acquire);
                let new = hashed.catch_up(&image, &mut buffer)?;
                if whole {
                    return Ok(hashed);
                }
                if !new {
                    std::thread::sleep(LOOK);
                }
            }
        });
        Self { written, work: Some(work) }
    }

    /// The hashes, now that the image is written.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn end(mut self) -> io::Result<Hashed> {
        self.written.store(true, Ordering::Release);
        match self.work.take() {
            Some(work) => work.await.map_err(io::Error::other)?,
            None => Ok(Hashed::default()),
        }
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.written.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn bytes_of(fill: u8) -> Vec<u8> {
        vec![fill; PAGE as usize]
    }

    #[tokio::test]
    async fn what_is_written_bit_by_bit_is_hashed_whole() {
        let folder = tempfile::tempdir().unwrap();
        let hashing = Hashing::begin(folder.path().to_owned());
        let mut files = [1, 2].map(|at| File::create(folder.path().join(format!("pages-{at}.img"))).unwrap());
        std::fs::write(folder.path().join("inventory.img"), bytes_of(9)).unwrap();
        for fill in 0..20 {
            let bytes = bytes_of(fill);
            // Not at the bounds of pages.
            for piece in bytes.chunks(1500) {
                files[usize::from(fill % 2)].write_all(piece).unwrap();
            }
            if fill % 5 == 0 {
                tokio::time::sleep(LOOK * 3).await;
            }
        }
        let hashed = hashing.end().await.unwrap();
        let expected =
            |odd: u8| (0..20).filter(move |fill| fill % 2 == odd).map(|fill| page(&bytes_of(fill)));
        assert!(expected(0).eq(hashed.of("pages-1.img".as_ref()).iter().copied()));
        assert!(expected(1).eq(hashed.of("pages-2.img".as_ref()).iter().copied()));
        assert!(hashed.of("inventory.img".as_ref()).is_empty());
        let whole = Hashed::read(folder.path()).unwrap();
        assert_eq!(whole.of("pages-2.img".as_ref()), hashed.of("pages-2.img".as_ref()));
    }

    #[tokio::test]
    async fn an_image_that_is_gone_is_an_error_and_one_given_up_ends() {
        let folder = tempfile::tempdir().unwrap();
        let hashing = Hashing::begin(folder.path().join("nothing"));
        assert_eq!(hashing.end().await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let hashing = Hashing::begin(folder.path().to_owned());
        let written = Arc::clone(&hashing.written);
        drop(hashing);
        // The runtime would wait for it for ever.
        assert!(written.load(Ordering::Acquire));
    }
}
