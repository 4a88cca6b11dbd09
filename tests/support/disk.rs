//! A file system of a test's own, where the machine lets tests have one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system. It goes with this value.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
    image: Option<PathBuf>,
}

impl Disk {
    /// A file system in memory. `None`, and a line that says why, where tests may not mount.
    pub fn tmpfs(at: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder");
        let size = format!("size={mib}m,mode=0700");
        run("mount", &["-t", "tmpfs", "-o", &size, "none", &at.display().to_string()])?;
        Some(Self { at: at.to_owned(), image: None })
    }

    /// ext4 in a file, whose power can be cut. `None`, and a line that says why, where tests may
    /// not have one.
    pub fn ext4(at: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder");
        let image = at.with_extension("img");
        std::fs::File::create(&image)
            .and_then(|f| f.set_len(u64::from(mib) << 20))
            .expect("a file");
        run("mkfs.ext4", &["-q", "-F", &image.display().to_string()])?;
        let disk = Self { at: at.to_owned(), image: Some(image) };
        disk.mount()?;
        Some(disk)
    }

    fn mount(&self) -> Option<()> {
        let image = self.image.as_ref().expect("only ext4 is mounted again");
        run("mount", &["-o", "loop", &image.display().to_string(), &self.at.display().to_string()])
    }

    /// From now on nothing reaches the disk any more, as when the power is cut: what was not
    /// synced is gone (EXT4_IOC_SHUTDOWN without a flush of the journal).
    pub fn cut_the_power(&self) -> Option<()> {
        let script = "import fcntl, os, struct, sys\n\
                      fd = os.open(sys.argv[1], os.O_RDONLY)\n\
                      fcntl.ioctl(fd, 0x8004587D, struct.pack('I', 2))\n";
        run("python3", &["-c", script, &self.at.display().to_string()])
    }

    /// The machine is on again: what is on the disk is there.
    pub fn switch_on(&self) {
        run("umount", &[&self.at.display().to_string()]).expect("the file system is let go");
        self.mount().expect("the file system is mounted again");
    }

    /// Fills it to the last byte. The file that is returned takes the room.
    pub fn fill(&self) -> PathBuf {
        use std::io::Write;
        let ballast = self.at.join("ballast");
        let mut file = std::fs::File::create(&ballast).expect("a file");
        for size in [1 << 20, 4096, 512, 1] {
            let piece = vec![0; size];
            while file.write(&piece).is_ok_and(|written| written == size) {}
        }
        ballast
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", &self.at.display().to_string()]);
        if let Some(image) = &self.image {
            std::fs::remove_file(image).ok();
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Option<()> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    match output {
        Ok(output) if output.status.success() => Some(()),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            eprintln!("SKIPPED: {program} does not work here: {}", why.trim());
            None
        }
        Err(why) => {
            eprintln!("SKIPPED: {program} does not run here: {why}");
            None
        }
    }
}
