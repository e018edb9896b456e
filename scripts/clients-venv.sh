#!/usr/bin/env bash
# Creates .venv-clients with the third-party CUDA clients the tests run (tests/clients).
#
# usage: scripts/clients-venv.sh
#
# Exact versions with their hashes, from tests/clients/requirements.txt; does nothing when the
# environment is already what that file says. No GPU, no driver and no toolkit are needed.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-clients
wanted=tests/clients/requirements.txt
if ! cmp -s "$wanted" "$venv/installed"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
        --only-binary :all: -r "$wanted"
    cp "$wanted" "$venv/installed"
fi
echo "$venv/bin/python"
