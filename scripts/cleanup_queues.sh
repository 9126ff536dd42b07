#!/usr/bin/env bash
# Deletes queues and exchanges: the same as `rabbitproof cleanup`, from a checkout.
#   cleanup_queues.sh all | exchanges | QUEUE...   [--dry-run] [--yes] [--help for the rest]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"
[[ -x $python ]] || python=${PYTHON:-python3}
export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m rabbitproof cleanup "$@"
