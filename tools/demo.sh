#!/usr/bin/env bash
# Builds, and runs the main job once: MESSAGES (50000), SESSIONS (100) and SIZE (10k) change the amounts.
set -euo pipefail
cd "$(dirname "$0")/.."
${CARGO:-cargo} build --release --workspace --bins
exec python3 tools/demo.py
