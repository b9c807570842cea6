#!/usr/bin/env python3
"""Counts the instructions of core's hot paths with valgrind and compares them with baseline.json.

  bench/count/gate.py            fails when an entry grew by more than 3 %, and names it (make count)
  bench/count/gate.py --accept   rewrites baseline.json (make count-accept)

Counts do not flicker: fixed inputs, no address randomisation, the system's own allocator, one thread.
They do change with the compiler and with libc; then the bound is 10 %, and that is said.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BASELINE = HERE / "baseline.json"
GROWTH_MAX = 0.03
# Where the tools are others than the baseline's.
GROWTH_MAX_FOREIGN = 0.10
# So much smaller, and the baseline is worth rewriting: what was won must not be lost unseen.
SHRINK_TOLD = 0.03
MARK = "posthaste_counted"


def output(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


def build():
    cargo = os.environ.get("CARGO", "cargo")
    # As everything else here is built, so that nothing is built twice.
    subprocess.run([cargo, "build", "--release", "--workspace", "--bins", "--quiet"], cwd=ROOT, check=True)
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").absolute() / "release" / "posthaste-count"


def tools():
    """What counts depend on beside our code. memchr and libc choose their loops by the CPU's features."""
    flags = next(line for line in open("/proc/cpuinfo") if line.startswith("flags")).split()
    return {
        "rustc": output("rustc", "--version"),
        "valgrind": output("valgrind", "--version"),
        "libc": " ".join(platform.libc_ver()),
        "wide registers": "avx2" if "avx2" in flags else "sse2",
    }


def count(binary, case):
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "out"
        command = ["setarch", "--addr-no-randomize", "valgrind", "--tool=callgrind", f"--toggle-collect={MARK}",
                   f"--callgrind-out-file={out}", binary, case]
        # The environment lies on the stack, and so moves what lies above it.
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
        if done.returncode != 0:
            sys.exit(f"count: {case}: {done.stderr.strip()}")
        found = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
    counted = int(found.group(1)) if found else 0
    if counted == 0:
        sys.exit(f"count: {case}: nothing was counted; is {MARK} still there?")
    return counted


def judge(known, counts, bound):
    """Lines for the reader, and whether any of them is a failure."""
    bad = []
    print(f"{'instructions':<32} {'before':>12} {'now':>12}")
    for case, now in counts.items():
        before = known.get(case)
        if before is None:
            print(f"{case:<32} {'':>12} {now:>12,}  new")
            bad.append(f"{case} is not in the baseline")
            continue
        growth = now / before - 1
        mark = "  GREW" if growth > bound else "  shrank" if growth < -SHRINK_TOLD else ""
        print(f"{case:<32} {before:>12,} {now:>12,} {growth:>+8.2%}{mark}")
        if growth > bound:
            bad.append(f"{case} takes {growth:.1%} more instructions ({before:,} → {now:,}); {bound:.0%} is the bound")
    bad += [f"{case} is in the baseline and is not counted any more" for case in known if case not in counts]
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="rewrite the baseline")
    args = parser.parse_args()
    binary = build()
    cases = output(binary).split()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(cases, pool.map(lambda case: count(binary, case), cases)))
    made_with = tools()
    if args.accept:
        BASELINE.write_text(json.dumps({"made_with": made_with, "instructions": counts}, indent=1) + "\n")
        print(f"count: {len(counts)} entries written to {BASELINE.relative_to(ROOT)}")
        return 0
    baseline = json.loads(BASELINE.read_text())
    foreign = [f"{tool} is {made_with[tool]}, the baseline has {was}" for tool, was in baseline["made_with"].items() if made_with.get(tool) != was]
    bound = GROWTH_MAX_FOREIGN if foreign else GROWTH_MAX
    for line in foreign:
        print(f"count: ATTENTION: {line}: the bound is {bound:.0%} in place of {GROWTH_MAX:.0%}")
    bad = judge(baseline["instructions"], counts, bound)
    for line in bad:
        print(f"count: {line}", file=sys.stderr)
    if bad:
        print("count: make count-accept takes the new figures, if they are worth it", file=sys.stderr)
    print(f"count: {len(counts) - len(bad)} passed, {len(bad)} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
