//! The file system that a kernel begins with: busybox, the modules that reach this machine's root, and
//! an `init` that runs one script there.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::package::Package;
use crate::shell::output;

/// Makes it anew, which takes less than a second.
pub(super) fn build(package: &Package) -> Result<PathBuf> {
    let file = package.root.with_file_name("initramfs");
    let tree = package
        .root
        .with_file_name(format!("tree-{}", std::process::id()));
    let built = fill(package, &tree).and_then(|()| pack(&tree, &file));
    let _ = fs::remove_dir_all(&tree);
    built.context("failed to make the initramfs")?;
    Ok(file)
}

fn fill(package: &Package, tree: &Path) -> Result<()> {
    for directory in [
        "bin", "dev", "host", "modules", "proc", "root", "sbin", "sys",
    ] {
        fs::create_dir_all(tree.join(directory))?;
    }
    let busybox = output(Command::new("sh").args(["-c", "command -v busybox"]));
    let busybox = busybox.context("busybox is not on the path")?;
    fs::copy(busybox.trim(), tree.join("bin/busybox"))?;
    for (number, module) in (10..).zip(modules(package)?) {
        unpack(&module, &tree.join(format!("modules/{number}.ko")))?;
    }
    program(&tree.join("init"), INIT)?;
    let root = package.root.to_string_lossy();
    program(
        &tree.join("sbin/modprobe"),
        &MODPROBE.replace("ROOT", &root),
    )
}

/// The modules that mount a file system by 9p, in the order in which they need each other.
fn modules(package: &Package) -> Result<Vec<PathBuf>> {
    let mut modules: Vec<PathBuf> = Vec::new();
    for name in ["virtio_pci", "9pnet_virtio", "9p", "virtio_rng"] {
        let mut modprobe = Command::new("modprobe");
        modprobe.arg("-d").arg(&package.root);
        modprobe.args(["-S", &package.version, "--show-depends", name]);
        let lines = output(&mut modprobe).with_context(|| format!("there is no module {name}"))?;
        for line in lines.lines() {
            // What is built in has no file.
            let path = line
                .strip_prefix("insmod ")
                .map(str::trim)
                .map(PathBuf::from);
            modules.extend(path.filter(|path| !modules.contains(path)));
        }
    }
    Ok(modules)
}

fn unpack(module: &Path, file: &Path) -> Result<()> {
    if module.extension().is_some_and(|name| name == "xz") {
        let xz = Command::new("xz").arg("-dc").arg(module).output()?;
        if !xz.status.success() {
            bail!("failed to unpack {}", module.display());
        }
        fs::write(file, xz.stdout)?;
    } else {
        fs::copy(module, file)?;
    }
    Ok(())
}

fn program(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

fn pack(tree: &Path, file: &Path) -> Result<()> {
    let list = output(Command::new("find").arg(".").current_dir(tree)).context("find failed")?;
    // Under its name only when it is whole: another run may boot from it.
    let packing = tree.with_extension("cpio");
    let mut cpio = Command::new("cpio")
        .args(["-o", "-H", "newc", "--quiet"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(File::create(&packing)?)
        .spawn()
        .context("failed to start cpio")?;
    let mut stdin = cpio.stdin.take().context("cpio has no input")?;
    stdin.write_all(list.as_bytes())?;
    drop(stdin);
    if !cpio.wait()?.success() {
        bail!("cpio failed");
    }
    Ok(fs::rename(packing, file)?)
}

/// Programs see this machine's root, with `/run`, `/tmp` and the kernel's file systems of the guest.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin:/sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod "$module"; done
option() { sed -n "s/.*sluice\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
share() { mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host "$1"; }
share /root
mount -o bind /root /host
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
for directory in /run /tmp /var/tmp /var/log /var/lib/nginx; do
    if [ -d "/root$directory" ]; then mount -t tmpfs tmpfs "/root$directory"; fi
done
# What the command needs may be below one of these.
for path in $(option keep | tr : ' '); do
    case $path in /run/*|/tmp/*|/var/tmp/*)
        if [ -d "/host$path" ]; then mkdir -p "/root$path"; mount -o bind "/host$path" "/root$path"; fi
    esac
done
mount -t bpf bpf /root/sys/fs/bpf
# As systemd's hybrid hierarchy, whose accounting benches read.
mount -t tmpfs tmpfs /root/sys/fs/cgroup
mkdir /root/sys/fs/cgroup/unified /root/sys/fs/cgroup/cpuacct
mount -t cgroup2 cgroup /root/sys/fs/cgroup/unified
mount -t cgroup -o cpuacct cgroup /root/sys/fs/cgroup/cpuacct
ip link set lo up
# Through a pipe: on a terminal, programs print colours.
{
    chroot /root /bin/sh "$(option script)" </dev/null 2>&1
    echo "sluice-status $?"
} | cat >/dev/ttyS1
sync
poweroff -f
"#;

/// The kernel asks for modules by this program. They are in the unpacked package.
const MODPROBE: &str = "#!/bin/busybox sh
exec /bin/busybox chroot /root /sbin/modprobe -d ROOT \"$@\"
";
