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

{{- /*
All ports of all services, with what their service in the cluster, their container and front.toml must agree upon. The name of a
container's port has fifteen characters at most. Its number may be another one's after an update, its name never is.
*/ -}}
{{- define "sterna.front.ports" -}}
{{- $all := list -}}
{{- range $service := .Values.front.services -}}
{{- range $service.ports -}}
{{- $target := .targetPort | default .port | int -}}
{{- $container := printf "%s:%d" $service.name $target | sha256sum | trunc 12 | printf "p-%s" -}}
{{- $known := dict "service" $service.name "name" (.name | default .protocol) "targetPort" $target "container" $container "listen" (len $all | add 20000) -}}
{{- $all = append $all (merge $known .) -}}
{{- end -}}
{{- end -}}
{{- toJson $all -}}
{{- end }}

{{- /* What no schema can say. */ -}}
{{- define "sterna.front.check" -}}
{{- $names := dict (include "sterna.name" .) "the scheduler" -}}
{{- $fronted := dict -}}
{{- range .Values.front.services -}}
{{- $service := .serviceName | default .name -}}
{{- if hasKey $names $service }}{{ fail (printf "front.services: `%s` is the name of a Kubernetes service already, of %s: say another `serviceName`" $service (get $names $service)) }}{{ end -}}
{{- if hasKey $fronted .name }}{{ fail (printf "front.services: `%s` stands there twice: put all its `ports` into one" .name) }}{{ end -}}
{{- $_ := set $names $service .name -}}
{{- $_ := set $fronted .name true -}}
{{- end -}}
{{- $ports := include "sterna.front.ports" . | fromJsonArray -}}
{{- if gt (len $ports) 256 }}{{ fail (printf "front.services: there are %d ports, and a front has at most 256" (len $ports)) }}{{ end -}}
{{- $seen := dict -}}
{{- range $ports -}}
{{- $of := printf "front.services: `%s`: " .service -}}
{{- $keys := dict (printf "%s port %d" .service (int .port)) (printf "two ports are %d: clients could not tell them apart" (int .port)) -}}
{{- $_ := set $keys (printf "%s target %d" .service (int .targetPort)) (printf "two ports lead to its port %d" (int .targetPort)) -}}
{{- $_ := set $keys (printf "%s name %s" .service .name) (printf "two ports are named `%s`: give one another `name`" .name) -}}
{{- range $key, $wrong := $keys -}}
{{- if hasKey $seen $key }}{{ fail (print $of $wrong) }}{{ end -}}
{{- $_ := set $seen $key true -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "sterna.front.settings" -}}
schema_version = 1
inventory = "inventory.toml"
identity = "/run/sterna/identity"
metrics = {{ printf "%s:%d" .Values.address (int .Values.front.port) | toJson }}
drain = {{ toJson .Values.front.drain }}
leave = {{ printf "%ds" (int .Values.front.leave) | toJson }}
{{- range include "sterna.front.ports" . | fromJsonArray }}

[[service]]
name = {{ toJson .service }}
listen = {{ printf "%s:%d" $.Values.address (int .listen) | toJson }}
port = {{ int .targetPort }}
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
