//! File systems for one test: in a file, mounted through a loop device, removed when dropped. They need root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::caching_disk::CachingDisk;

/// The supported kinds of file system. `overlay` has its layers on a tmpfs.
pub const KINDS: [&str; 5] = ["ext4", "btrfs", "xfs", "tmpfs", "overlay"];

/// A mounted file system.
pub struct LoopFs {
    kind: &'static str,
    /// Its disk, if it has a volatile cache.
    disk: Option<CachingDisk>,
    temp: tempfile::TempDir,
}

impl LoopFs {
    /// Creates and mounts one of `megabytes`; `None`, with a message, where that is not possible.
    pub fn new(kind: &'static str, megabytes: u64) -> Option<LoopFs> {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        LoopFs::in_dir(kind, megabytes, &place)
    }

    /// The same, with its disk in a file below `place`.
    pub fn in_dir(kind: &'static str, megabytes: u64, place: &Path) -> Option<LoopFs> {
        LoopFs::made(kind, megabytes, place, false)
    }

    /// The same, on a disk with a cache. `place` must be on a file system that can share blocks.
    pub fn caching(kind: &'static str, megabytes: u64, place: &Path) -> Option<LoopFs> {
        LoopFs::made(kind, megabytes, place, true)
    }

    fn made(kind: &'static str, megabytes: u64, place: &Path, caching: bool) -> Option<LoopFs> {
        let temp = tempfile::Builder::new().prefix("holofs-loop.").tempdir_in(place).unwrap();
        // Users other than root need access too.
        run("chmod", &["0755", temp.path().to_str().unwrap()]).unwrap();
        let mut fs = LoopFs { kind, disk: None, temp };
        match fs.mount(megabytes, caching) {
            Ok(()) => Some(fs),
            Err(why) => {
                assert!(std::env::var_os("HOLOFS_NO_SKIP").is_none(), "Cannot make {kind}: {why}");
                eprintln!("skipped: cannot make {kind}: {why}");
                None
            }
        }
    }

    /// Its root.
    pub fn path(&self) -> PathBuf {
        self.temp.path().join("mnt")
    }

    /// The disk in its state at this moment, as after a power cut: data that the kernel has not written yet is missing. The disk must be
    /// on a file system that can share blocks, because an ordinary copy takes too long to capture one moment.
    pub fn image(&self) -> Image {
        let temp = self.place_of_image();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let (from, to) = (text(self.temp.path().join("image")), text(temp.path().join("image")));
        run("cp", &["--reflink=always", &from, &to]).unwrap();
        Image { kind: self.kind, temp }
    }

    /// The disk after a power cut at this moment. On a disk with a cache, the number chooses which unflushed writes survive.
    pub fn cut(&self, luck: u64) -> Image {
        let Some(disk) = &self.disk else { return self.image() };
        let temp = self.place_of_image();
        disk.cut(&temp.path().join("image"), luck);
        Image { kind: self.kind, temp }
    }

    fn place_of_image(&self) -> tempfile::TempDir {
        let place = self.temp.path().parent().unwrap();
        tempfile::Builder::new().prefix("holofs-image.").tempdir_in(place).unwrap()
    }

    fn mount(&mut self, megabytes: u64, caching: bool) -> Result<(), String> {
        let (root, mount) = (self.temp.path(), self.path());
        fs::create_dir(&mount).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let size = format!("size={megabytes}m");
        match self.kind {
            "tmpfs" => run("mount", &["-t", "tmpfs", "-o", &size, "none", &text(&mount)]),
            "overlay" => {
                let layers = root.join("layers");
                fs::create_dir(&layers).unwrap();
                run("mount", &["-t", "tmpfs", "-o", &size, "none", &text(&layers)])?;
                for layer in ["lower", "upper", "work"] {
                    fs::create_dir(layers.join(layer)).unwrap();
                }
                let at = |layer: &str| text(&layers.join(layer));
                let options =
                    format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
                run("mount", &["-t", "overlay", "-o", &options, "none", &text(&mount)])
            }
            kind => {
                let image = root.join("image");
                fs::File::create_new(&image).unwrap().set_len(megabytes << 20).unwrap();
                let force = if kind == "ext4" { "-F" } else { "-f" };
                run(&format!("mkfs.{kind}"), &["-q", force, &text(&image)])?;
                let disk = caching.then(|| CachingDisk::new(&image, root));
                let device = disk.as_ref().map_or(image, CachingDisk::path);
                let mounted = run("mount", &["-o", "loop", &text(&device), &text(&mount)]);
                self.disk = disk;
                mounted
            }
        }
    }
}

/// A copy of the disk of a file system at one moment.
pub struct Image {
    kind: &'static str,
    temp: tempfile::TempDir,
}

impl Image {
    /// Mounts it, as a restarted machine does. The original must not be mounted: both have the same UUID.
    pub fn boot(self) -> LoopFs {
        let fs = LoopFs { kind: self.kind, disk: None, temp: self.temp };
        fs::create_dir(fs.path()).unwrap();
        let image = fs.temp.path().join("image");
        run("mount", &["-o", "loop", image.to_str().unwrap(), fs.path().to_str().unwrap()]).unwrap();
        fs
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        for mount in [self.path(), self.temp.path().join("layers")] {
            // `mount` set up the loop device; it is removed with the mount.
            if mount.is_dir() && run("mountpoint", &["-q", mount.to_str().unwrap()]).is_ok() {
                let gone = run("umount", &[mount.to_str().unwrap()]);
                gone.or_else(|_| run("umount", &["-l", mount.to_str().unwrap()])).ok();
            }
        }
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(args).env("PATH", path).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program} {args:?}: {said}")) }
}
