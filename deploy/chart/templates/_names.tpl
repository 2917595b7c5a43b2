{{- define "sterna.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains "sterna" $name) }}{{ $name = printf "%s-sterna" $name }}{{ end -}}
{{- .Values.fullnameOverride | default $name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "sterna.account" -}}
{{- $name := ternary (include "sterna.name" .) "default" .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default $name -}}
{{- end }}

{{- define "sterna.lease" -}}
{{- .Values.settings.leader.lease | default (include "sterna.name" .) -}}
{{- end }}

{{- define "sterna.claim" -}}
{{- .Values.persistence.existingClaim | default (include "sterna.name" .) -}}
{{- end }}

{{- define "sterna.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end }}

{{- /* The namespace in which services are declared. */ -}}
{{- define "sterna.services" -}}
{{- .Values.services.namespace | default .Release.Namespace -}}
{{- end }}

{{- define "sterna.selector" -}}
app.kubernetes.io/name: sterna
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sterna.metadata" -}}
name: {{ include "sterna.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "sterna.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}
