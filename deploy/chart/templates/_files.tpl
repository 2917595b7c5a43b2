{{- define "sterna.inventory" -}}
{{- .Values.inventory | default (.Files.Get "files/inventory.toml") -}}
{{- end }}

{{- /* Folders of state, and so the authority's place, are named for the continuum. */ -}}
{{- define "sterna.continuum" -}}
{{- $inventory := include "sterna.inventory" . | fromToml -}}
{{- with $inventory.Error }}{{ fail (printf "inventory: this is no TOML: %s" .) }}{{ end -}}
{{- $name := required "inventory: the continuum has no `name`" $inventory.name -}}
{{- if not (regexMatch "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" $name) -}}
{{- fail (printf "inventory: `%s` is no name: lower-case letters, digits and `-`" $name) -}}
{{- end -}}
{{- $name -}}
{{- end }}

{{- define "sterna.policies" -}}
{{- $policies := .Values.policies -}}
{{- if not $policies }}{{ $policies = dict "policy.toml" (.Files.Get "files/policy.toml") }}{{ end -}}
{{- toJson $policies -}}
{{- end }}

{{- define "sterna.settings" -}}
inventory = "inventory.toml"
policies = {{ include "sterna.policies" . | fromJson | keys | sortAlpha | toJson }}
{{- if .Values.calibration }}
calibration = "calibration.toml"
{{- end }}
state = "/var/lib/sterna"
listen = {{ printf "%s:%d" .Values.address (int .Values.port) | toJson }}
seed = {{ int64 .Values.settings.seed }}

[leader]
lease = {{ include "sterna.lease" . | toJson }}
term = {{ toJson .Values.settings.leader.term }}
{{- if or .Values.migrations.enabled .Values.services.enabled .Values.endpoints }}

[kubernetes]
{{- if .Values.migrations.enabled }}
migrations = {{ toJson .Release.Namespace }}
keep = {{ int .Values.migrations.keep }}
{{- end }}
{{- if .Values.services.enabled }}
services = {{ include "sterna.services" . | toJson }}
stand_in_image = {{ include "sterna.image" . | toJson }}
{{- end }}
{{- with .Values.endpoints }}
endpoints = {{ toJson . }}
{{- end }}
{{- end }}

[prometheus]
url = {{ toJson .Values.settings.prometheus.url }}
timeout = {{ toJson .Values.settings.prometheus.timeout }}

[history]
keep = {{ toJson .Values.settings.history.keep }}
{{- with .Values.settings.probes.interval }}

[probes]
interval = {{ toJson . }}
{{- end }}
{{- if .Values.apiToken.existingSecret }}

[api]
token_file = "/run/sterna/token/token"
{{- end }}
{{- with .Values.settings.extra }}

{{ trim . }}
{{- end }}
{{- end }}
