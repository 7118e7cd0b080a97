{{/* What cannot work is refused before anything is rendered. */}}
{{- define "kubeop.check" -}}
{{- if and (or .Values.operator.enabled .Values.admission.enabled) (ne .Release.Namespace "kubeop-system") -}}
{{- fail (printf "operator and admission live in namespace kubeop-system: install with --namespace kubeop-system, not %q (or set operator.enabled=false and admission.enabled=false for a manager alone)" .Release.Namespace) -}}
{{- end -}}
{{- if not (or .Values.manager.enabled .Values.operator.enabled .Values.admission.enabled) -}}
{{- fail "nothing is enabled: set manager.enabled, operator.enabled or admission.enabled" -}}
{{- end -}}
{{- if and .Values.admission.certManager.enabled (not (and .Values.operator.enabled .Values.admission.enabled)) -}}
{{- fail "admission.certManager.enabled needs operator.enabled and admission.enabled: another operator would make certificates too" -}}
{{- end -}}
{{- if and .Values.operator.mocks (not .Values.operator.enabled) -}}
{{- fail "operator.mocks needs operator.enabled" -}}
{{- end -}}
{{- if .Values.manager.enabled -}}
{{- $database := .Values.manager.database -}}
{{- if and (eq $database.type "sqlite") (gt (int .Values.manager.replicas) 1) -}}
{{- fail (printf "manager.replicas is %d: SQLite serves one; set manager.database.type=postgres for more" (int .Values.manager.replicas)) -}}
{{- end -}}
{{- if and (eq $database.type "sqlite") (or $database.postgres.url $database.postgres.existingSecret) -}}
{{- fail "manager.database.postgres is set, but manager.database.type is sqlite: set manager.database.type=postgres" -}}
{{- end -}}
{{- if and (eq $database.type "postgres") $database.sqlite.existingClaim -}}
{{- fail "manager.database.sqlite.existingClaim is set, but manager.database.type is postgres" -}}
{{- end -}}
{{- if eq .Values.manager.keys.jwtSigningKey .Values.manager.keys.kmsMasterKey -}}
{{- fail (printf "manager.keys: jwtSigningKey and kmsMasterKey are both %q: each is a key of its own" .Values.manager.keys.kmsMasterKey) -}}
{{- end -}}
{{- if eq $database.type "postgres" -}}
{{- if and $database.postgres.url $database.postgres.existingSecret -}}
{{- fail "manager.database.postgres: url and existingSecret are both set: one is needed" -}}
{{- end -}}
{{- if not (or $database.postgres.url $database.postgres.existingSecret) -}}
{{- fail "manager.database.postgres: url or existingSecret is needed" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.manager.ingress.enabled (not .Values.manager.ingress.host) -}}
{{- fail "manager.ingress.host is needed" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "kubeop.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Labels of every object. Those of the chart are what objects are found by: they win over the user's. */}}
{{- define "kubeop.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" "kubeop"
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/part-of" "kubeop"
  "app.kubernetes.io/managed-by" (.Values.managedBy | default .Release.Service)
  "helm.sh/chart" (printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_")) -}}
{{- toYaml (merge $own .Values.commonLabels) -}}
{{- end -}}

{{/* Labels of an object of a role, or of its pods. Input: root, role, labels? (the user's) */}}
{{- define "kubeop.roleLabels" -}}
{{- $own := dict "app.kubernetes.io/component" .role -}}
{{- toYaml (merge $own (include "kubeop.labels" .root | fromYaml) (.labels | default dict)) -}}
{{- end -}}

{{/* Environment of a container: an entry of the user's takes the place of the chart's of that name. Input: own (YAML), extra */}}
{{- define "kubeop.env" -}}
{{- $given := dict -}}
{{- range .extra }}{{ $_ := set $given .name true }}{{ end -}}
{{- $all := list -}}
{{- range fromYamlArray .own }}{{ if not (hasKey $given .name) }}{{ $all = append $all . }}{{ end }}{{ end -}}
{{- toYaml (concat $all (.extra | default list)) -}}
{{- end -}}

{{/* Labels by which the pods of a role are found; never changed, since selectors cannot be. Input: the role. */}}
{{- define "kubeop.selector" -}}
app.kubernetes.io/name: kubeop
app.kubernetes.io/component: {{ . }}
{{- end -}}

{{/* metadata of an object of a role. Input: root, name, role, labels?, annotations? */}}
{{- define "kubeop.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "kubeop.roleLabels" . | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The objects of a generated file with the release's labels. Input: root, file, keep?, annotations? */}}
{{- define "kubeop.generated" -}}
{{- $input := . -}}
{{- $labels := include "kubeop.labels" .root | fromYaml -}}
{{- range $text := splitList "\n---\n" (.root.Files.Get (printf "files/%s" .file)) }}
{{- $object := fromYaml $text }}
{{- if hasKey $object "Error" }}{{ fail (printf "files/%s: %s" $input.file $object.Error) }}{{ end }}
{{- $annotations := dict "kubeop.io/version" $input.root.Chart.AppVersion }}
{{- if $input.keep }}{{ $_ := set $annotations "helm.sh/resource-policy" "keep" }}{{ end }}
{{- $annotations = merge ($input.annotations | default dict) $annotations ($object.metadata.annotations | default dict) }}
{{- $_ := set $object.metadata "labels" (merge ($object.metadata.labels | default dict) $labels) }}
{{- $_ := set $object.metadata "annotations" $annotations }}
---
{{ toYaml $object }}
{{ end }}
{{- end -}}

{{/* The replicas of a Deployment; where a HorizontalPodAutoscaler rules, what it has set. Input: root, name, replicas */}}
{{- define "kubeop.replicas" -}}
{{- $ruled := lookup "autoscaling/v2" "HorizontalPodAutoscaler" .root.Release.Namespace .name -}}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace .name -}}
{{- if kindIs "invalid" .replicas -}}{{- else if and $ruled $live -}}{{ $live.spec.replicas }}{{- else -}}{{ .replicas }}{{- end -}}
{{- end -}}

{{/* What the pods of all roles share. Input: root, role, account, token, priority? */}}
{{- define "kubeop.pod" -}}
{{- $values := index .root.Values .role -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ .token }}
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with $values.priorityClassName | default .priority }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if kindIs "invalid" $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "kubeop.selector" $.role | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- else }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What the containers of all roles share. Input: root, role */}}
{{- define "kubeop.container" -}}
{{- $values := index .root.Values .role -}}
name: {{ .role }}
image: {{ include "kubeop.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .role }}]
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
resources:
  {{- toYaml $values.resources | nindent 2 }}
{{- end -}}

{{/* Probes. Input: the port's name */}}
{{- define "kubeop.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /healthz, port: {{ . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: {{ . }}}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

{{/* The ingress rule of metrics: pods of `helm test`, namespaces that are marked for it, and whom the values name. Input: root. */}}
{{- define "kubeop.metricsRule" -}}
- ports: [{port: metrics, protocol: TCP}]
  from:
    - podSelector: {matchLabels: {app.kubernetes.io/name: kubeop, app.kubernetes.io/component: test}}
    - namespaceSelector: {matchLabels: {app.kubeop.io/metrics: "true"}}
    {{- with .Values.networkPolicy.metricsFrom }}
    - namespaceSelector:
        {{- toYaml . | nindent 8 }}
    {{- end }}
{{- end -}}

{{- define "kubeop.inCluster" -}}
{{- if or .Values.operator.enabled .Values.admission.enabled }}true{{ end -}}
{{- end -}}

{{/* A ServiceMonitor of a role's Service with port `metrics`. Input: root, role, name */}}
{{- define "kubeop.serviceMonitor" -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "kubeop.metadata" (merge (dict "labels" .root.Values.serviceMonitor.labels) .) | nindent 2 }}
spec:
  selector:
    matchLabels:
      app.kubernetes.io/instance: {{ .root.Release.Name }}
      {{- include "kubeop.selector" .role | nindent 6 }}
  endpoints:
    - port: metrics
      path: /metrics
      interval: {{ .root.Values.serviceMonitor.interval }}
{{- end -}}
