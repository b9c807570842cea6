"""From runs to medians with their spread, and to files that say which machine they belong to."""
import json
import os
import pathlib
import platform
import statistics
import subprocess
import time


# What measuring itself writes is no change of what is measured.
WRITTEN = (":(top,exclude)*/results/*", ":(top,exclude)bench/README.md")


def spread(runs):
    """Median, least and most of each figure of the first run; all runs have the same ones."""
    figures = {}
    for key in runs[0]:
        values = sorted(one[key] for one in runs)
        figures[key] = {"median": statistics.median(values), "min": values[0], "max": values[-1]}
    return figures


def cell(figure, digits=1):
    """A median and, where runs differ, the least and the most."""
    median, least, most = (f"{figure[key]:,.{digits}f}" for key in ("median", "min", "max"))
    return median if least == most else f"{median} ({least} to {most})"


def show(figures):
    for key, figure in figures.items():
        print(f"  {key:<42} {cell(figure)}")


def write(path, report):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def machine():
    """What figures belong to."""
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    return {
        "cpu": model, "cpus": os.cpu_count(), "memory_mib": memory // 1024, "kernel": platform.release(),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed_since": bool(_git("status", "--porcelain", "--untracked-files=no", "--", ":/", *WRITTEN)),
    }


def moment():
    """How busy the machine is before a measurement, and when that was."""
    return {"load_before": os.getloadavg()[0], "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def _git(*words):
    return subprocess.run(["git", *words], cwd=pathlib.Path(__file__).parent, capture_output=True, text=True).stdout.strip()
