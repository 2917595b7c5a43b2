{{- define "sterna.front.name" -}}
{{- printf "%s-front" (include "sterna.name" . | trunc 57 | trimSuffix "-") -}}
{{- end }}

{{- define "sterna.front.account" -}}
{{- $name := ternary (include "sterna.front.name" .) "default" .Values.front.serviceAccount.create -}}
{{- .Values.front.serviceAccount.name | default $name -}}
{{- end }}

{{- /* Another name than the scheduler's, whose service must not lead here. */ -}}
{{- define "sterna.front.selector" -}}
app.kubernetes.io/name: sterna-front
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sterna.front.labels" -}}
labels:
  {{- include "sterna.front.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "sterna.front.metadata" -}}
name: {{ include "sterna.front.name" . }}
namespace: {{ .Release.Namespace }}
{{ include "sterna.front.labels" . }}
{{- end }}

{{- define "sterna.front.inventory" -}}
{{- .Values.front.inventory | default (include "sterna.inventory" .) -}}
{{- end }}

{{- /* Of fifteen characters at most. A port's number may be another one's after an update, its name never is. */ -}}
{{- define "sterna.front.port" -}}
p-{{ sha256sum . | trunc 12 }}
{{- end }}

{{- define "sterna.front.settings" -}}
schema_version = 1
inventory = "inventory.toml"
identity = "/run/sterna/identity"
metrics = {{ printf "%s:%d" .Values.address (int .Values.front.port) | toJson }}
drain = {{ toJson .Values.front.drain }}
leave = {{ printf "%ds" (int .Values.front.leave) | toJson }}
{{- range $index, $service := .Values.front.services }}

[[service]]
name = {{ toJson .name }}
listen = {{ printf "%s:%d" $.Values.address (add 20000 $index) | toJson }}
port = {{ int .port }}
protocol = {{ toJson .protocol }}
{{- with .connections }}
connections = {{ int . }}
{{- end }}
{{- with .held }}
held = {{ int . }}
{{- end }}
{{- with .hold }}
hold = {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}
