{{- define "skiagraph.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 40 characters leave room for the longest suffix and a StatefulSet's own. */}}
{{- define "skiagraph.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "skiagraph.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "skiagraph.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Called with (dict "root" $ "component" "listener"); the chart's version never enters a selector. */}}
{{- define "skiagraph.selectorLabels" -}}
app.kubernetes.io/name: {{ include "skiagraph.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "skiagraph.labels" -}}
{{ include "skiagraph.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "skiagraph.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "skiagraph.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Called with (dict "root" $ "image" .Values.image): what the image leaves empty comes from the common one,
     except the digest of what is another image. */}}
{{- define "skiagraph.image" -}}
{{- $common := .root.Values.image }}
{{- $repository := default $common.repository .image.repository }}
{{- $tag := default (default .root.Chart.AppVersion $common.tag) .image.tag }}
{{- $digest := .image.digest }}
{{- if not (or .image.repository .image.tag .image.digest) }}
{{- $digest = $common.digest }}
{{- end }}
{{- if $digest }}{{ $repository }}@{{ $digest }}{{ else }}{{ $repository }}:{{ $tag }}{{ end }}
{{- end }}

{{/* The settings file: the site's own keys, and over them what the cluster decides. */}}
{{- define "skiagraph.settings" -}}
{{- $listener := dict
  "host" "0.0.0.0" "port" 11112 "console_host" "0.0.0.0" "console_port" 8080
  "folder" "/var/lib/skiagraph"
  "service_url" (include "skiagraph.serviceUrl" .) }}
{{- if .Values.service.tls.existingSecret }}
{{- $_ := set $listener "service_tls" (dict "ca" "/etc/skiagraph-service-ca/ca.crt") }}
{{- end }}
{{- if .Values.settings.listener.tls }}
{{- $_ := set $listener "tls" (dict "port" 2762) }}
{{- end }}
{{- if not (hasKey .Values.settings.listener "scoring_concurrency") }}
{{- $_ := set $listener "scoring_concurrency" (include "skiagraph.scoringConcurrency" . | int) }}
{{- end }}
{{- $service := dict "port" 3000 }}
{{- if .Values.service.gpu.enabled }}
{{- $_ := set $service "plan_cache" "/var/cache/skiagraph" }}
{{- end }}
{{- $owned := dict "log_json" true "listener" $listener "service" $service }}
{{- toYaml (mergeOverwrite (deepCopy .Values.settings) $owned) }}
{{- end }}

{{/* Two studies for each replica there may be: one is scored while the next is decoded. 64 is the product's limit. */}}
{{- define "skiagraph.scoringConcurrency" -}}
{{- $scaled := ne .Values.service.autoscaling.mode "none" }}
{{- min 64 (mul 2 (ternary .Values.service.autoscaling.maxReplicas .Values.service.replicas $scaled)) }}
{{- end }}

{{- define "skiagraph.serviceUrl" -}}
{{- ternary "https" "http" (not (empty .Values.service.tls.existingSecret)) }}://{{ include "skiagraph.fullname" . }}-service:3000
{{- end }}

{{/* "yes" where the chart makes the token that the listener shows. */}}
{{- define "skiagraph.ownToken" -}}
{{- $service := .Values.settings.service | default dict }}
{{- if not (or $service.tokens $service.allow_anonymous) }}yes{{ end }}
{{- end }}

{{/* The volume of the authority that signed the service's certificate, for whoever asks the service. */}}
{{- define "skiagraph.serviceCa" -}}
- name: service-ca
  secret: {secretName: {{ .Values.service.tls.existingSecret }}, items: [{key: ca.crt, path: ca.crt}], defaultMode: 288}
{{- end }}

{{/* What both pods share: restricted profile, no token, no writable root. */}}
{{- define "skiagraph.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false # a Service named skiagraph-… would put SKIAGRAPH_… variables into our settings
securityContext:
  runAsNonRoot: true
  runAsUser: 10340
  runAsGroup: 10340
  fsGroup: 10340
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "skiagraph.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "skiagraph.environment" -}}
- {name: SKIAGRAPH_CONFIG, value: /etc/skiagraph/skiagraph.yaml}
- {name: HOME, value: /tmp}
- {name: BENTOML_HOME, value: /tmp/bentoml}
- {name: BENTOML_DO_NOT_TRACK, value: "True"}
{{- end }}

{{/* Called with (dict "root" $ "half" .Values.listener). */}}
{{- define "skiagraph.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .half.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .half.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .half.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Files that the settings name must come from a Secret that is mounted.
     Called with (dict "root" $ "where" "settings.listener.tls" "tls" (dict "key" "/etc/…")). */}}
{{- define "skiagraph.validateFiles" -}}
{{- $root := .root }}
{{- $where := .where }}
{{- range $key, $path := omit (.tls | default dict) "port" }}
{{- $mounted := list }}
{{- range $root.Values.listener.tlsSecrets }}
{{- if hasPrefix (printf "/etc/skiagraph-tls/%s/" .) ($path | toString) }}
{{- $mounted = append $mounted . }}
{{- end }}
{{- end }}
{{- if and $path (not $mounted) }}
{{- fail (printf "%s.%s is %s: name a file in /etc/skiagraph-tls/SECRET, and the Secret in listener.tlsSecrets" $where $key $path) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Contradictions that a schema cannot name. */}}
{{- define "skiagraph.validate" -}}
{{- with .Values.service.autoscaling }}
{{- if and (eq .mode "keda") (not .keda.serverAddress) }}
{{- fail "service.autoscaling.keda.serverAddress is empty: give the URL of Prometheus, or choose another service.autoscaling.mode" }}
{{- end }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- fail (printf "service.autoscaling.minReplicas %d is more than maxReplicas %d" (int .minReplicas) (int .maxReplicas)) }}
{{- end }}
{{- end }}
{{- include "skiagraph.validateFiles" (dict "root" . "where" "settings.listener.tls" "tls" .Values.settings.listener.tls) }}
{{- range .Values.settings.listener.destinations }}
{{- include "skiagraph.validateFiles" (dict "root" $ "where" (printf "settings.listener.destinations %s tls" .name) "tls" .tls) }}
{{- end }}
{{- if and (.Values.settings.service | default dict).tokens (not .Values.listener.serviceToken.existingSecret) }}
{{- fail "settings.service.tokens asks for a token, and the listener has none: name a Secret in listener.serviceToken.existingSecret" }}
{{- end }}
{{- if and .Values.listener.serviceToken.existingSecret (include "skiagraph.ownToken" .) }}
{{- fail "listener.serviceToken.existingSecret names a token that the service does not know: give its sha256 in settings.service.tokens" }}
{{- end }}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.modalities) }}
{{- fail "networkPolicy.modalities is empty: name the CIDR that may send DICOM, or nobody can" }}
{{- end }}
{{- if and .Values.listener.service.nodePort (ne .Values.listener.service.type "NodePort") (ne .Values.listener.service.type "LoadBalancer") }}
{{- fail "listener.service.nodePort needs listener.service.type NodePort or LoadBalancer" }}
{{- end }}
{{- end }}
