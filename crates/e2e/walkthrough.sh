#!/usr/bin/env bash
# The end-to-end walkthrough (seed 001), step by step with its own commands, each answer checked. Lines marked with # are the document's own words.
#
# Needs: MGR (the manager's URL), ~/.kube/config (the cluster), curl, jq and kubectl in PATH; a working directory that may be written.
# With authentication, ~/.curlrc adds the header to every request.
set -euo pipefail

fail() { echo "FAILED: $*" >&2; exit 1; }
step() { echo "== $*"; }
# check FILE JQ-CONDITION: the JSON in FILE fulfils the condition.
check() { jq -e "$2" "$1" >/dev/null || fail "$1 does not fulfil: $2; it is: $(cat "$1")"; }
# same WHAT GOT WANTED
same() { [ "$2" = "$3" ] || fail "$1 is: $2; expected: $3"; }
UUID='test("^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")'
TIME='test("^[0-9-]{10}T[0-9:.]+Z$")'

step "1) register a cluster"
# ---- document
export CLUSTER_NAME=kind-kubeop
# Cross‑platform base64 (Linux/macOS)
export KCFG_B64=$(base64 -w0 < ~/.kube/config 2>/dev/null || base64 < ~/.kube/config | tr -d '\n')

curl -sS -X POST "$MGR/v1/clusters" \
  -H 'Content-Type: application/json' \
  -d '{"name":"'"$CLUSTER_NAME"'","kubeconfig":"'"$KCFG_B64"'","autoBootstrap":true,"installAdmission":true,"withMocks":true}' | tee /tmp/cluster.json

export CLUSTER_ID=$(jq -r .id /tmp/cluster.json)
# ---- end
check /tmp/cluster.json ".id | $UUID"
check /tmp/cluster.json '.name == "kind-kubeop"'
check /tmp/cluster.json '.labels["app.kubeop.io/cluster-id"] == .id'
check /tmp/cluster.json '.finalizers == ["kubeop.io/cleanup"]'
check /tmp/cluster.json ".created_at | $TIME"
check /tmp/cluster.json 'has("kubeconfig") | not'
for crd in tenants projects apps policies dnsrecords certificates; do
  kubectl get crd "$crd.platform.kubeop.io" -o name >/dev/null || fail "the CRD of $crd is not there after autoBootstrap"
done
kubectl -n kubeop-system get configmap kubeop-policy -o name >/dev/null || fail "no policy ConfigMap after autoBootstrap"
kubectl get validatingwebhookconfiguration kubeop-admission -o name >/dev/null || fail "no webhook configuration after installAdmission"

# ---- document
curl -sS "$MGR/v1/clusters/$CLUSTER_ID/status"
# ---- end
curl -sS "$MGR/v1/clusters/$CLUSTER_ID/status" > status.json
check status.json '[.operator, .admission, .webhookCABundle] | map(type) == ["boolean", "boolean", "boolean"]'
# The document's loop has no end of its own: a watchdog ends the script if the cluster never becomes ready.
( trap 'kill $SLEEP; exit' TERM; sleep 90 & SLEEP=$!; wait $SLEEP; kill -TERM $$ ) >/dev/null 2>&1 & WATCHDOG=$!
trap 'echo "FAILED: not ready within 90 s: $(curl -sS "$MGR/v1/clusters/$CLUSTER_ID/ready")" >&2; exit 1' TERM
# ---- document
until curl -sf -o /dev/null "$MGR/v1/clusters/$CLUSTER_ID/ready"; do sleep 3; done
echo "Cluster ready"
# ---- end
kill "$WATCHDOG"; trap - TERM
curl -sS "$MGR/v1/clusters/$CLUSTER_ID/status" > status.json
check status.json '.operator and .admission and .webhookCABundle and .reachable'
curl -sS "$MGR/v1/clusters" > clusters.json
check clusters.json 'type == "array" and length == 1 and .[0].id == env.CLUSTER_ID'

step "2) create a tenant"
# ---- document
curl -sS -X POST "$MGR/v1/tenants" \
  -H 'Content-Type: application/json' \
  -d '{"name":"acme","clusterID":"'"$CLUSTER_ID"'"}' | tee /tmp/tenant.json

export TENANT_ID=$(jq -r .id /tmp/tenant.json)
# ---- end
check /tmp/tenant.json ".id | $UUID"
check /tmp/tenant.json '.name == "acme" and .cluster_id == env.CLUSTER_ID and .labels["app.kubeop.io/tenant-id"] == .id'

step "3) create a project"
# ---- document
curl -sS -X POST "$MGR/v1/projects" \
  -H 'Content-Type: application/json' \
  -d '{"tenantID":"'"$TENANT_ID"'","name":"web"}' | tee /tmp/project.json

export PROJECT_ID=$(jq -r .id /tmp/project.json)
# ---- end
check /tmp/project.json ".id | $UUID"
check /tmp/project.json '.name == "web" and .tenant_id == env.TENANT_ID and .namespace == "kubeop-acme-web"'
curl -sS "$MGR/v1/projects/$PROJECT_ID?wait=60" > project.json
check project.json '.status.phase == "Ready" and .status.synced and (.status.conditions | map(.type) | index("Ready"))'
NS=$(jq -r .namespace project.json)
kubectl get namespace "$NS" -o json > namespace.json
check namespace.json '.metadata.labels["pod-security.kubernetes.io/enforce"] == "baseline"'
[ "$(kubectl -n "$NS" get resourcequotas -o name | wc -l)" -ge 1 ] || fail "the project has no ResourceQuota"
[ "$(kubectl -n "$NS" get limitranges -o name | wc -l)" -ge 1 ] || fail "the project has no LimitRange"
[ "$(kubectl -n "$NS" get networkpolicies -o name | wc -l)" -ge 1 ] || fail "the project has no NetworkPolicy"

step "4) set policy guardrails"
# ---- document
curl -sS -X PUT "$MGR/v1/platform/policy" -H 'Content-Type: application/json' -d '{
  "imageAllowlist": ["docker.io","ghcr.io"],
  "egressBaseline": ["10.0.0.0/8","172.16.0.0/12"],
  "quotaMax": {"requestsCPU":"4","requestsMemory":"8Gi"}
}' -i > policy.http
# ---- end
cat policy.http
head -1 policy.http | grep -q '^HTTP/1.1 200' || fail "PUT policy answered $(head -1 policy.http)"
tail -1 policy.http > policy.json
check policy.json '.imageAllowlist == ["docker.io","ghcr.io"] and .egressBaseline == ["10.0.0.0/8","172.16.0.0/12"]'
check policy.json '.quotaMax == {"requestsCPU":"4","requestsMemory":"8Gi"} and .version >= 1'
for _ in $(seq 50); do
  if kubectl -n kubeop-system get configmap kubeop-policy -o json | grep -q '172.16.0.0/12'; then synced=yes; break; fi
  sleep 0.1
done
[ "${synced:-}" = yes ] || fail "the ConfigMap kubeop-policy does not hold the policy after 5 s"

step "5) create an app"
# ---- document
curl -sS -X POST "$MGR/v1/apps" \
  -H 'Content-Type: application/json' \
  -d '{"projectID":"'"$PROJECT_ID"'","name":"web","image":"docker.io/library/nginx:1.25","host":"web.local"}' | tee /tmp/app.json

export APP_ID=$(jq -r .id /tmp/app.json)
# ---- end
check /tmp/app.json ".id | $UUID"
check /tmp/app.json '.name == "web" and .project_id == env.PROJECT_ID and .namespace == "kubeop-acme-web"'
for _ in $(seq 100); do
  curl -sS "$MGR/v1/apps/$APP_ID" > app.json
  jq -e '.status.synced and (.status.conditions | length > 0)' app.json >/dev/null && break
  sleep 0.2
done
check app.json '.status.synced and (.status.phase | IN("Pending", "Ready"))'
check app.json '.status.conditions | map(.type) | index("Ready")'
for kind in deployment service ingress; do
  kubectl -n "$NS" get "$kind" -l "app.kubeop.io/app-id=$APP_ID" -o json > "$kind.json"
  check "$kind.json" '.items | length == 1'
done
check deployment.json '.items[0].spec.template.spec.containers[0].image | startswith("docker.io/library/nginx:1.25")'
check ingress.json '.items[0].spec.rules[0].host == "web.local"'

step "6) issue a token and a kubeconfig"
# ---- document
curl -sS -X POST "$MGR/v1/jwt/project" -H 'Content-Type: application/json' \
  -d '{"ProjectID":"'"$PROJECT_ID"'","TTLMinutes":60}' | tee /tmp/token.json

curl -sS "$MGR/v1/kubeconfigs/project/$PROJECT_ID" | jq -r .kubeconfig > kubeconfig.yaml
# ---- end
check /tmp/token.json '.token_type == "Bearer" and .project_id == env.PROJECT_ID and (.token | split(".") | length == 3)'
check /tmp/token.json ".expires_at | $TIME"
export KUBECONFIG=$PWD/kubeconfig.yaml
same "the kubeconfig's namespace" "$(kubectl config view --minify -o 'jsonpath={..namespace}')" "$NS"
kubectl create configmap mine --from-literal=a=b
kubectl create deployment probe --image=docker.io/library/nginx:1.25
kubectl get pods
kubectl get deployments,services,configmaps,secrets,apps >/dev/null
refused() {
  if kubectl "$@" > out.txt 2>&1; then fail "kubectl $* is allowed: $(cat out.txt)"; fi
  grep -qi forbidden out.txt || fail "kubectl $* failed, but not as forbidden: $(cat out.txt)"
}
refused get namespaces
refused get nodes
refused get projects
refused get tenants
refused get namespace "$NS"
refused -n default get pods
refused -n kube-system get secrets
refused -n kubeop-system get configmaps
refused -n kubeop-access get secrets
refused create serviceaccount other
refused create rolebinding all --clusterrole=cluster-admin --user=me
refused delete resourcequota --all
refused create token default
unset KUBECONFIG

step "7) usage and invoice"
# ---- document
HOUR=$(date -u -d '1 hour ago' +%Y-%m-%dT%H:00:00Z 2>/dev/null || date -u -v -1H +%Y-%m-%dT%H:00:00Z)
curl -sS -X POST "$MGR/v1/usage/ingest" -H 'Content-Type: application/json' \
  -d '[{"ts":"'$HOUR'","tenant_id":"'$TENANT_ID'","cpu_milli":500,"mem_mib":1024}]' > ingest.json

curl -sS "$MGR/v1/invoices/$TENANT_ID" | jq
# ---- end
check ingest.json '. == {"accepted":1,"created":1,"updated":0,"unchanged":0}'
if [ "${HOUR:0:7}" != "$(date -u +%Y-%m)" ]; then
  # In the first hour of a month the hour before is on another invoice: the current hour takes its place.
  HOUR=$(date -u +%Y-%m-%dT%H:00:00Z)
fi
curl -sS -X POST "$MGR/v1/usage/ingest" -H 'Content-Type: application/json' \
  -d '[{"ts":"'$HOUR'","tenant_id":"'$TENANT_ID'","cpu_milli":500,"mem_mib":1024}]' > again.json
check again.json '.accepted == 1 and (.created + .unchanged == 1) and .updated == 0'
curl -sS -X POST "$MGR/v1/usage/ingest" -H 'Content-Type: application/json' \
  -d '[{"ts":"'$HOUR'","tenant_id":"'$TENANT_ID'","cpu_milli":500,"mem_mib":1024}]' > again.json
check again.json '. == {"accepted":1,"created":0,"updated":0,"unchanged":1}'
curl -sS "$MGR/v1/invoices/$TENANT_ID" > invoice.json
check invoice.json '.tenant_id == env.TENANT_ID and .tenant_name == "acme" and .currency == "USD" and .status == "open"'
# 500 × 0.000001 = 0.0005 and 1024 × 0.0000002 = 0.0002048: quantities and rates are exact, each line is rounded once to cents.
same "the invoice's lines" "$(jq -c '[.lines[] | {meter, quantity, rate, amount}] | sort_by(.meter)' invoice.json)" \
  '[{"meter":"cpu_milli","quantity":"500","rate":"0.000001","amount":"0.00"},{"meter":"mem_mib","quantity":"1024","rate":"0.0000002","amount":"0.00"}]'
same "the sums" "$(jq -c '[.subtotal, .adjustments, .total]' invoice.json)" '["0.00","0.00","0.00"]'
# The same hour with more: set, not added. 2,000,000,000 × 0.000001 = 2000.00; 1024 stays.
curl -sS -X POST "$MGR/v1/usage/ingest" -H 'Content-Type: application/json' \
  -d '[{"ts":"'$HOUR'","tenant_id":"'$TENANT_ID'","cpu_milli":2000000000,"mem_mib":12345678}]' > set.json
check set.json '. == {"accepted":1,"created":0,"updated":1,"unchanged":0}'
curl -sS "$MGR/v1/invoices/$TENANT_ID" > invoice.json
same "the amounts" "$(jq -c '[(.lines | sort_by(.meter)[] | .amount), .subtotal, .total]' invoice.json)" '["2000.00","2.47","2002.47","2002.47"]'

step "8) cluster operations"
# ---- document
curl -sS -X POST "$MGR/v1/platform/bootstrap?clusterID=$CLUSTER_ID" -H 'Content-Type: application/json' \
  -d '{"InstallMetricsServer":false,"Mocks":false}' > bootstrap.json
# ---- end
check bootstrap.json '.cluster_id == env.CLUSTER_ID and .objects > 0'
# ---- document
curl -sS -X POST "$MGR/v1/platform/autoscale?clusterID=$CLUSTER_ID" -H 'Content-Type: application/json' \
  -d '{"Enabled":true,"Min":1,"Max":3,"TargetCPU":70}' -i > autoscale.http
# ---- end
cat autoscale.http
head -1 autoscale.http | grep -q '^HTTP/1.1 200' || fail "autoscale answered $(head -1 autoscale.http)"
kubectl -n kubeop-system get hpa -o json > hpa.json
check hpa.json '.items[] | select(.metadata.name == "kubeop-operator") | .spec.minReplicas == 1 and .spec.maxReplicas == 3'
# Admission keeps two replicas whatever is asked for.
check hpa.json '.items[] | select(.metadata.name == "kubeop-admission") | .spec.minReplicas == 2 and .spec.maxReplicas == 3'
curl -sf -o /dev/null "$MGR/v1/clusters/$CLUSTER_ID/ready" || fail "the cluster is not ready after the second bootstrap"

step "reference"
for path in /openapi.json /healthz /readyz /version /metrics; do curl -sf -o /dev/null "$MGR$path" || fail "$path does not answer 200"; done
echo "walkthrough: everything as documented"
