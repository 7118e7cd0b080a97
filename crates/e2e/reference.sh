#!/usr/bin/env bash
# The samples of the API reference (seed 000) with its own commands, and its table of errors. $ADMIN is an administrator's token.
set -euo pipefail

fail() { echo "FAILED: $*" >&2; exit 1; }
check() { jq -e "$2" "$1" >/dev/null || fail "$1 does not fulfil: $2; it is: $(cat "$1")"; }
# status WANTED CURL-ARGUMENTS...: the status code and, for errors, the shape.
status() {
  local wanted=$1 got
  shift
  got=$(curl -sS -o answer.json -w '%{http_code}' "$@")
  [ "$got" = "$wanted" ] || fail "$* answered $got instead of $wanted: $(cat answer.json)"
  [ "$wanted" -lt 400 ] || check answer.json 'keys == ["error"] and (.error | type == "string" and length > 0)'
}
post() { curl -sS -H "Authorization: Bearer $ADMIN" -H 'Content-Type: application/json' -X POST "$MGR$1" -d "$2"; }

# The document's $KUBECONFIG is the kubeconfig's text.
KUBECONFIG=$(cat ~/.kube/config)
# ---- document
curl -sS -H "Authorization: Bearer $ADMIN" -H 'Content-Type: application/json' \
  -X POST http://localhost:18080/v1/clusters \
  -d "$(jq -n --arg name dev --arg kc "$KUBECONFIG" '{name:$name,kubeconfig:$kc}')" > cluster.json
# ---- end
cat cluster.json
check cluster.json '.name == "dev" and .labels["app.kubeop.io/cluster-id"] == .id and .finalizers == ["kubeop.io/cleanup"] and (.created_at | endswith("Z"))'
export CLUSTER_ID TENANT_ID PROJECT_ID APP_ID
CLUSTER_ID=$(jq -r .id cluster.json)

# Rows do not need the cluster to be set up: they are pending.
post /v1/tenants '{"name":"acme","clusterID":"'"$CLUSTER_ID"'","quotas":{"cpu":"8","memory":"16Gi"}}' > tenant.json
TENANT_ID=$(jq -r .id tenant.json)
check tenant.json '.status.phase == "Pending"'
post /v1/projects '{"tenantID":"'"$TENANT_ID"'","name":"web","quotas":{"cpu":"2","memory":"4Gi"}}' > project.json
PROJECT_ID=$(jq -r .id project.json)
post /v1/apps '{"project_id":"'"$PROJECT_ID"'","name":"web","spec":{"delivery":{"image":"docker.io/library/nginx:1.25"},"host":"web.local"}}' > app.json
APP_ID=$(jq -r .id app.json)
check app.json '.project_id == env.PROJECT_ID'
post /v1/usage/ingest '[{"ts":"'"$(date -u +%Y-%m-%dT%H:00:00Z)"'","tenant_id":"'"$TENANT_ID"'","cpu_milli":500000,"mem_mib":1000000}]' >/dev/null

# ---- document
curl -sS -H "Authorization: Bearer $ADMIN" http://localhost:18080/v1/usage/snapshot | jq '.totals' > totals.json
curl -sS -H "Authorization: Bearer $ADMIN" http://localhost:18080/v1/invoices/$TENANT_ID | jq '{tenant_name, subtotal, lines}' > invoice.json
# ---- end
cat totals.json invoice.json
check totals.json '.cpu_milli == 500000 and .mem_mib == 1000000 and .clusters == 1 and .tenants == 1 and .projects == 1 and .apps == 1'
check totals.json '.quotas.cpu == "8" and .quotas.memory == "16Gi"'
check invoice.json '.tenant_name == "acme" and .subtotal == "0.70" and (.lines | map(.amount) | sort == ["0.20", "0.50"])'

# The table of operations.
AUTH=(-H "Authorization: Bearer $ADMIN")
for path in /healthz /metrics /version; do status 200 "$MGR$path"; done
for path in /v1/clusters "/v1/clusters/$CLUSTER_ID" "/v1/tenants/$TENANT_ID" "/v1/projects/$PROJECT_ID" "/v1/apps/$APP_ID" /v1/analytics/summary; do
  status 200 "${AUTH[@]}" "$MGR$path"
done
check answer.json '.clusters == 1 and .delivery_kinds.Image == 1 and .registry_hosts["docker.io"] == 1'

# The table of errors.
JSON=(-H 'Content-Type: application/json')
status 400 "${AUTH[@]}" "${JSON[@]}" -X POST "$MGR/v1/projects" -d '{"tenantID":"'"$TENANT_ID"'","name":"big","quotas":{"cpu":"7"}}'
check answer.json '.error | contains("quota overflow")'
status 400 "${AUTH[@]}" "${JSON[@]}" -X POST "$MGR/v1/apps" -d '{"projectID":"'"$PROJECT_ID"'","name":"x","image":"docker.io/library/nginx","namespace":"other"}'
check answer.json '.error | contains("namespace mismatch")'
status 401 "$MGR/v1/clusters"
status 401 -H 'Authorization: Bearer nonsense' "$MGR/v1/clusters"
TENANT_TOKEN=$(post /v1/jwt/tenant '{"TenantID":"'"$TENANT_ID"'"}' | jq -r .token)
status 403 -H "Authorization: Bearer $TENANT_TOKEN" "$MGR/v1/clusters"
status 404 "${AUTH[@]}" "$MGR/v1/apps/00000000-0000-7000-8000-000000000000"
status 409 "${AUTH[@]}" -X DELETE "$MGR/v1/clusters/$CLUSTER_ID"
status 409 "${AUTH[@]}" -X DELETE "$MGR/v1/tenants/$TENANT_ID"
status 409 "${AUTH[@]}" -X DELETE "$MGR/v1/projects/$PROJECT_ID"
# Deleting in reverse; nothing reached a cluster, so each is gone at once.
for path in "/v1/apps/$APP_ID" "/v1/projects/$PROJECT_ID" "/v1/tenants/$TENANT_ID" "/v1/clusters/$CLUSTER_ID"; do
  status 204 "${AUTH[@]}" -X DELETE "$MGR$path"
  status 404 "${AUTH[@]}" "$MGR$path"
done
# The invoice of a deleted tenant stays readable.
status 200 "${AUTH[@]}" "$MGR/v1/invoices/$TENANT_ID"
check answer.json '.tenant_name == "acme" and .subtotal == "0.70"'
echo "reference: everything as documented"
