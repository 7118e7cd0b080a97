#!/usr/bin/env bash
# Renders the manifests of this folder from charts/kubeop: `deploy/k8s/install/render.sh [folder]`. $HELM: the helm program (default: helm).
# A test checks that what is committed is current.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
chart=$here/../../../charts/kubeop
out=${1:-$here}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# $1: folder; the rest: values.
render() {
  local part=$1
  shift
  "${HELM:-helm}" template kubeop "$chart" --namespace kubeop-system --output-dir "$scratch/$part" \
    --set managedBy=kubeop --set tests.enabled=false "$@" >/dev/null
  mkdir -p "$out/$part"
  local file
  for file in "$scratch/$part"/kubeop/templates/*.yaml; do
    {
      echo "# Rendered from charts/kubeop by deploy/k8s/install/render.sh; edit the chart instead."
      # What only Helm reads goes.
      sed -e '/helm\.sh\//d' -e '/^# Source: /d' "$file"
    } >"$out/$part/$(basename "$file")"
  done
}

render cluster --set manager.enabled=false
render manager --set operator.enabled=false --set admission.enabled=false \
  --set manager.replicas=2 --set manager.database.type=postgres \
  --set manager.database.postgres.existingSecret=kubeop-manager-database --set manager.keys.existingSecret=kubeop-manager-keys
