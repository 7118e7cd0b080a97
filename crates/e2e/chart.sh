#!/usr/bin/env bash
# The chart on a cluster with nodes: install, helm test, upgrade, helm test, roll-back, uninstall.
#
#   crates/e2e/chart.sh IMAGE[:TAG] [helm values...]
#
# Needs: KUBECONFIG (cluster administrator; pods there can pull IMAGE), kubectl and helm ($HELM) in PATH, a default StorageClass (or values that choose
# PostgreSQL). The cluster must not have kubeOP yet; afterwards it has what docs/operations/install.md documents, which is printed.
set -euo pipefail
image=$1
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
helm=${HELM:-helm}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
name=${image##*/}
case $name in
  *:*) repository=${image%:*} tag=${image##*:} ;;
  *) repository=$image tag=latest ;;
esac
values=(--namespace kubeop-system --set "image.repository=$repository" --set "image.tag=$tag" "$@")

step() { echo "== $*"; }
state() { kubectl -n kubeop-system get pods,deployments,events --sort-by=.metadata.creationTimestamp | tail -40; }
trap 'state >&2' ERR
deny() { # a webhook that fails closed and is answered: the canary's label is denied in the known way
  local said
  said=$(kubectl -n kubeop-system create configmap canary-by-hand --dry-run=client -o yaml |
    kubectl label --local -f - app.kubeop.io/canary=by-hand -o yaml |
    kubectl create --dry-run=server -f - 2>&1) || true
  [[ $said == *"kubeop canary"* ]] || { echo "admission does not answer: $said" >&2; return 1; }
}

step "install"
kubectl apply -f "$root/deploy/k8s/install/cluster/namespace.yaml"
"$helm" install kubeop "$root/charts/kubeop" "${values[@]}" --wait --timeout 5m
"$helm" test kubeop --namespace kubeop-system --timeout 3m
deny

step "a tenant's project"
kubectl apply -f "$root/deploy/k8s/samples/01-tenant.yaml" -f "$root/deploy/k8s/samples/02-project.yaml"
kubectl wait --for=condition=Ready project/acme.web --timeout=60s

step "upgrade"
cp -r "$root/charts/kubeop" "$scratch/kubeop"
version=$(sed -n 's/^version: //p' "$scratch/kubeop/Chart.yaml")
sed -i "s/^version: .*/version: $version-next/" "$scratch/kubeop/Chart.yaml"
before=$(kubectl get validatingwebhookconfiguration kubeop-admission -o jsonpath='{.webhooks[*].clientConfig.caBundle} {.webhooks[*].failurePolicy}')
# Admission is asked all the while: a roll-out must not leave it unanswered.
(while deny; do sleep 0.2; done; touch "$scratch/unanswered") & asking=$!
"$helm" upgrade kubeop "$scratch/kubeop" "${values[@]}" --set log=debug --wait --timeout 5m
kill "$asking" 2>/dev/null; wait "$asking" 2>/dev/null || true
[ ! -e "$scratch/unanswered" ] || { echo "admission was unanswered during the upgrade" >&2; exit 1; }
after=$(kubectl get validatingwebhookconfiguration kubeop-admission -o jsonpath='{.webhooks[*].clientConfig.caBundle} {.webhooks[*].failurePolicy}')
[ "$before" = "$after" ] || { echo "the upgrade changed the webhook" >&2; exit 1; }
"$helm" test kubeop --namespace kubeop-system --timeout 3m

step "roll back"
"$helm" rollback kubeop 1 --namespace kubeop-system --wait --timeout 5m
deny

step "uninstall"
kubectl delete -f "$root/deploy/k8s/samples/02-project.yaml" -f "$root/deploy/k8s/samples/01-tenant.yaml" --timeout=2m
"$helm" uninstall kubeop --namespace kubeop-system --wait --timeout 3m
kubectl get crds,namespaces,clusterroles,validatingadmissionpolicies,validatingwebhookconfigurations -o name | grep kubeop
kubectl -n kubeop-system get configmaps,secrets,persistentvolumeclaims -o name
step "done"
