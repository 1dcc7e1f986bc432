{{/* The name of what the chart makes; short enough for its longest suffix. A release's
name may have dots, that of a Service may not. */}}
{{- define "locksidecar.name" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = .Release.Name | replace "." "-" -}}
{{- $name = ternary $name (printf "%s-locksidecar" $name) (contains "locksidecar" $name) -}}
{{- end -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* The webhook's configuration has one name in a cluster, whatever the release's: two
releases would both be asked about each pod, and one refuse what the other made. Helm
refuses the second. */}}
{{- define "locksidecar.webhook" -}}
locksidecar-injector
{{- end }}

{{/* The namespaces whose pods never reach the injector, as a list in YAML. */}}
{{- define "locksidecar.excluded" -}}
{{- concat (list "kube-system" "kube-node-lease" .Release.Namespace) .Values.injector.excludedNamespaces | uniq | toYaml -}}
{{- end }}

{{/* The labels of an object: (list $ "component"). */}}
{{- define "locksidecar.labels" -}}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
app.kubernetes.io/part-of: locksidecar
{{ include "locksidecar.selector" . }}
{{- end }}

{{/* The labels by which a component's pods are found: (list $ "component"). */}}
{{- define "locksidecar.selector" -}}
app.kubernetes.io/name: locksidecar
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "locksidecar.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Where the chart's own pods run: where the injector may. Its programs are for Linux. */}}
{{- define "locksidecar.placement" -}}
nodeSelector:
  {{- merge (dict) .Values.injector.nodeSelector (dict "kubernetes.io/os" "linux") | toYaml | nindent 2 }}
{{- with .Values.injector.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What Pod Security "restricted" wants of a pod. */}}
{{- define "locksidecar.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* And of a container. */}}
{{- define "locksidecar.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
