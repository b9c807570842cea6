//! File systems of a test's own: one that fills up, one whose power is cut. Needs root; where it may
//! not mount, the test says so and proves nothing.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

/// How long an unmount may be refused by what is still open.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(30);

/// A mounted file system that ends with this value.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// `arguments` as mount(8) has them, before the directory.
    pub(crate) fn new(path: &Path, arguments: &[&str]) -> Option<Self> {
        fs::create_dir_all(path).expect("a folder");
        run(Command::new("mount").args(arguments).arg(path)).then(|| Self(path.into()))
    }
}

impl Mount {
    /// `file` in the place of `other`, for this thread and for what it starts.
    pub(crate) fn over_in_own_namespace(file: &Path, other: &Path) {
        unshare(CloneFlags::CLONE_NEWNS).expect("who has a network of its own may have this");
        let private = run(Command::new("mount").args(["--make-rprivate", "/"]));
        let bound = run(Command::new("mount").arg("--bind").args([file, other]));
        assert!(private && bound, "{} is in place", file.display());
    }

    /// With other `options`; whether they are taken.
    pub(crate) fn change(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        run(Command::new("mount").args(["-o", &options]).arg(&self.0))
    }

    /// Whoever writes there waits until the value ends. `None` where that cannot be had.
    pub(crate) fn freeze(&self) -> Option<Frozen<'_>> {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.0)).then(|| Frozen(self))
    }
}

/// A file system that takes no write.
pub(crate) struct Frozen<'a>(&'a Mount);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.0.0));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let deadline = Instant::now() + UNMOUNT_PATIENCE;
        while !run(Command::new("umount").arg(&self.0)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// An ext4 file system in a file, to be mounted and cut again and again.
pub(crate) struct Image {
    image: String,
    mount: PathBuf,
}

impl Image {
    /// `None` where mkfs.ext4 does not run.
    pub(crate) fn new(folder: &Path, octets: u64) -> Option<Self> {
        let image = folder.join("image");
        let file = File::create(&image).expect("an image");
        file.set_len(octets).expect("an image");
        drop(file);
        run(Command::new("mkfs.ext4").arg("-q").arg(&image)).then(|| Self {
            image: image.to_string_lossy().into_owned(),
            mount: folder.join("mount"),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    pub(crate) fn mount(&self) -> Option<Mount> {
        Mount::new(&self.mount, &["-t", "ext4", "-o", "loop", &self.image])
    }

    /// What is not on the device at this moment is lost.
    pub(crate) fn cut(&self) -> Result<(), String> {
        cut::power(&self.mount).map_err(|error| error.to_string())
    }
}

/// A btrfs file system in a file, with a quota on a volume in it: what is there beyond it stays unused.
pub(crate) struct Quota {
    mounted: Mount,
    /// Of the volume, as btrfs-qgroup(8) has it.
    group: String,
}

impl Quota {
    const VOLUME: &str = "volume";

    /// `None` where btrfs, or its quotas, cannot be had.
    pub(crate) fn new(folder: &Path, octets: u64) -> Option<Self> {
        let image = folder.join("image");
        let file = File::create(&image).expect("an image");
        file.set_len(512 << 20).expect("an image");
        drop(file);
        let image = image.to_string_lossy();
        said(Command::new("mkfs.btrfs").arg("-q").arg(&*image)).ok()?;
        let options = ["-t", "btrfs", "-o", "loop", &image];
        let mounted = Mount::new(&folder.join("mount"), &options)?;
        let mut quota = Self {
            mounted,
            group: String::new(),
        };
        let volume = quota.path();
        said(
            Command::new("btrfs")
                .args(["quota", "enable"])
                .arg(&quota.mounted.0),
        )
        .ok()?;
        said(
            Command::new("btrfs")
                .args(["subvolume", "create"])
                .arg(&volume),
        )
        .ok()?;
        let root = ["inspect-internal", "rootid"];
        let id = said(Command::new("btrfs").args(root).arg(&volume)).ok()?;
        quota.group = format!("0/{}", id.trim());
        quota.set(Some(octets)).is_ok().then_some(quota)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.mounted.0.join(Self::VOLUME)
    }

    /// # Errors
    /// What btrfs(8) says.
    pub(crate) fn set(&self, octets: Option<u64>) -> Result<(), String> {
        let limit = octets.map_or_else(|| "none".into(), |octets| octets.to_string());
        // Asked from outside the volume: the change itself takes room, and in there none may be left.
        let done = said(
            Command::new("btrfs")
                .args(["qgroup", "limit", &limit, &self.group])
                .arg(&self.mounted.0),
        );
        done.map(drop)
    }
}

/// What the command printed, or what it complained of.
fn said(command: &mut Command) -> Result<String, String> {
    let done = command.output().map_err(|error| error.to_string())?;
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    if done.status.success() {
        Ok(text(&done.stdout))
    } else {
        Err(text(&done.stderr))
    }
}

fn run(command: &mut Command) -> bool {
    said(command).is_ok()
}

/// Says so past the harness, which keeps for itself what `eprintln!` says in a test that passes; in CI
/// it is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}, in CI");
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // Who has no standard error hears nothing, and the test is none the worse.
    let _ = writeln!(io::stderr(), "SKIPPED, nothing is proved: {test}: {why}");
}

/// Cuts a file system off from its device, as a power cut would.
mod cut {
    #![expect(
        unsafe_code,
        reason = "ext4's shutdown has no other door than an ioctl"
    )]

    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::path::Path;

    /// `EXT4_GOING_FLAGS_NOLOGFLUSH`: what is not on the device yet is lost.
    const NO_LOG_FLUSH: u32 = 2;

    nix::ioctl_read!(shutdown, b'X', 125, u32);

    pub(super) fn power(mount: &Path) -> nix::Result<()> {
        let folder = File::open(mount).map_err(|_| nix::Error::ENOENT)?;
        let mut flags = NO_LOG_FLUSH;
        // SAFETY: the descriptor is open, and the kernel reads one u32 that outlives the call.
        unsafe { shutdown(folder.as_raw_fd(), &raw mut flags) }.map(|_| ())
    }
}
