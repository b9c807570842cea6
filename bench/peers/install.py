"""Brings servers here without installing them: Debian packages unpacked into a cache, npm packages beside them.

Packages that Debian would not let stand beside each other (two servers that both are the system's
mail server) do so here, because each is only unpacked. Nothing of the system changes.
"""
import os
import pathlib
import re
import shutil
import subprocess

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "posthaste-bench"


class Missing(Exception):
    """Why a server is not here. Its text is shown and stored in place of figures."""


def debian(package):
    """The unpacked package with those of its dependencies that this system lacks, and its version."""
    if is_installed(package):
        return None, installed_version(package)
    root, stamp = CACHE / "debian" / package, CACHE / "debian" / f"{package}.version"
    if not stamp.exists():
        if shutil.which("apt-get") is None:
            raise Missing(f"no {package}, and no apt-get to fetch it")
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        stamp.write_text(_unpack(package, root))
    return root, stamp.read_text().strip()


def is_installed(package):
    return installed_version(package) is not None


def installed_version(package):
    done = _try("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package)
    state, _, version = done.stdout.partition(" ")
    return version if done.returncode == 0 and state == "installed" else None


def _unpack(package, root):
    plan = _try("apt-get", "--print-uris", "-y", "--no-install-recommends", "install", package)
    names = re.findall(r"^'\S+' (\S+?)_\S+\.deb ", plan.stdout, re.MULTILINE)
    if package not in names:
        last = (plan.stderr.strip().splitlines() or ["no such package"])[-1]
        raise Missing(f"apt-get does not know {package} ({last})")
    debs = root / "debs"
    debs.mkdir()
    done = _try("apt-get", "download", "-q", *names, cwd=debs)
    if done.returncode != 0:
        raise Missing(f"apt-get download {package}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    for deb in debs.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
    # Merged /usr: what a package still puts into /lib is looked for below /usr.
    if (root / "lib").is_dir():
        shutil.copytree(root / "lib", root / "usr" / "lib", dirs_exist_ok=True, symlinks=True)
    field = next(debs.glob(f"{package}_*.deb"))
    version = _try("dpkg-deb", "-f", field, "Version").stdout.strip()
    shutil.rmtree(debs)
    return version


def npm(package):
    """The directory that an npm package was installed into, and its version."""
    root = CACHE / "npm" / package
    manifest = root / "node_modules" / package / "package.json"
    if not manifest.exists():
        if shutil.which("npm") is None or shutil.which("node") is None:
            raise Missing(f"no npm or no node to run {package}")
        root.mkdir(parents=True, exist_ok=True)
        done = _try("npm", "install", "--no-fund", "--no-audit", "--omit=optional", package, cwd=root)
        if done.returncode != 0 or not manifest.exists():
            raise Missing(f"npm install {package}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    version = re.search(r'"version":\s*"([^"]+)"', manifest.read_text())
    return root, version.group(1) if version else "unknown"


def _try(*command, cwd=None):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env={**os.environ, "LC_ALL": "C"})
