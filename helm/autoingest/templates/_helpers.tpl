{{- define "autoingest.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "autoingest.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "autoingest.labels" -}}
{{ include "autoingest.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{/* Scheme of a listener, for probes and scrapes; takes root and block. */}}
{{- define "autoingest.scheme" -}}
{{- $listen := default dict (default dict (index .root.Values.config .block)).listen -}}
{{- ternary "HTTPS" "HTTP" (not (empty $listen.tls)) -}}
{{- end }}

{{/* Name of what belongs to a role; takes root and role. */}}
{{- define "autoingest.roleName" -}}
{{- $own := (index .root.Values.roles .role).name -}}
{{- printf "%s-%s" (include "autoingest.fullname" .root) (default .role $own) -}}
{{- end }}

{{/* Labels by which a Service finds the pods of a role: its own, or those that run all roles. */}}
{{- define "autoingest.roleSelector" -}}
{{ include "autoingest.selector" .root }}
app.kubernetes.io/component: {{ ternary "combined" .role .root.Values.combined }}
{{- end }}

{{/* Enabled roles, separated by commas. */}}
{{- define "autoingest.enabled" -}}
{{- $roles := list -}}
{{- range $role := list "enqueue" "ingest" "idle" "presence" "events" "status" "reconcile" -}}
{{- if (index $.Values.roles $role).enabled -}}{{- $roles = append $roles $role -}}{{- end -}}
{{- end -}}
{{- join "," $roles -}}
{{- end }}

{{/* "true" if enqueue listens; `config.enqueue.listen: null` says that it does not. */}}
{{- define "autoingest.webhook" -}}
{{- $enqueue := default dict .Values.config.enqueue -}}
{{- if not (and (hasKey $enqueue "listen") (kindIs "invalid" $enqueue.listen)) -}}true{{- end -}}
{{- end }}

{{/* Port of a listener in the configuration; takes root, block and the program's default. */}}
{{- define "autoingest.port" -}}
{{- $block := default dict (index .root.Values.config .block) -}}
{{- $listen := default dict $block.listen -}}
{{- int (default .port $listen.port) -}}
{{- end }}

{{- define "autoingest.adminPort" -}}{{ include "autoingest.port" (dict "root" . "block" "admin" "port" 8002) }}{{- end }}
{{- define "autoingest.notifyPort" -}}{{ include "autoingest.port" (dict "root" . "block" "enqueue" "port" 8000) }}{{- end }}
{{- define "autoingest.presencePort" -}}{{ include "autoingest.port" (dict "root" . "block" "presence" "port" 8001) }}{{- end }}

{{- define "autoingest.eventsPort" -}}{{ include "autoingest.port" (dict "root" . "block" "events" "port" 8003) }}{{- end }}
{{- define "autoingest.statusPort" -}}{{ include "autoingest.port" (dict "root" . "block" "status" "port" 8004) }}{{- end }}

{{/* The program's configuration file. */}}
{{- define "autoingest.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if .Values.redis.enabled -}}
{{- $url := printf "redis://%s-redis:6379/0" (include "autoingest.fullname" .) -}}
{{- $_ := set $config "redis" (mergeOverwrite (deepCopy (default dict $config.redis)) (dict "url" $url)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/*
Seconds that a pod may take to end. The program itself ends after `drain` at the latest; then enqueue answers what it
holds back, and processes and connections are closed.
*/}}
{{- define "autoingest.grace" -}}
{{- $drain := (default dict .root.Values.config.ingest).drain | default 90 -}}
{{- $hold := (default dict .root.Values.config.enqueue).hold | default 8 -}}
{{- $least := add (ceil $drain) (ceil $hold) (include "autoingest.preStop" .root) 15 | int -}}
{{- $given := (index .root.Values.roles .role).terminationGracePeriodSeconds -}}
{{- if and $given (lt (int $given) $least) -}}
{{- fail (printf "roles.%s.terminationGracePeriodSeconds: %d s is shorter than the %d s that the program may take to end: config.ingest.drain (%v s), config.enqueue.hold (%v s), %s s before SIGTERM and 15 s to close" .role (int $given) $least $drain $hold (include "autoingest.preStop" .root)) -}}
{{- end -}}
{{- default $least $given | int -}}
{{- end }}

{{/* Seconds before SIGTERM in which Services stop sending to the pod while it still listens. */}}
{{- define "autoingest.preStop" -}}5{{- end }}

{{/* Every secret that is given, as YAML: entry, variable, and the reference. */}}
{{- define "autoingest.secrets" -}}
{{- $s := .Values.secrets -}}
{{- $all := list
  (dict "entry" "redisPassword" "for" "all" "variable" "AUTOINGEST_REDIS_PASSWORD" "ref" $s.redisPassword)
  (dict "entry" "sentinelPassword" "for" "all" "variable" "AUTOINGEST_SENTINEL_PASSWORD" "ref" $s.sentinelPassword)
  (dict "entry" "notificationSecrets" "for" "enqueue" "variable" "AUTOINGEST_NOTIFICATION_SECRETS" "ref" $s.notificationSecrets)
  (dict "entry" "kafkaPassword" "for" (list "enqueue" "events") "variable" "AUTOINGEST_KAFKA_PASSWORD" "ref" $s.kafkaPassword)
  (dict "entry" "webhookSecrets" "for" "events" "variable" "AUTOINGEST_WEBHOOK_SECRETS" "ref" $s.webhookSecrets)
  (dict "entry" "adminToken" "for" "all" "variable" "AUTOINGEST_ADMIN_TOKEN" "ref" $s.adminToken)
  (dict "entry" "presenceToken" "for" "presence" "variable" "AUTOINGEST_PRESENCE_TOKEN" "ref" $s.presenceToken)
  (dict "entry" "readToken" "for" (list "presence" "events" "status") "variable" "AUTOINGEST_READ_TOKEN" "ref" $s.readToken)
  (dict "entry" "dbAuth" "for" "" "variable" "" "ref" $s.dbAuth)
  (dict "entry" "s3.endpoint" "for" "butler" "variable" "S3_ENDPOINT_URL" "ref" $s.s3.endpoint)
  (dict "entry" "s3.accessKey" "for" "butler" "variable" "AWS_ACCESS_KEY_ID" "ref" $s.s3.accessKey)
  (dict "entry" "s3.secretKey" "for" "butler" "variable" "AWS_SECRET_ACCESS_KEY" "ref" $s.s3.secretKey) -}}
{{- range $profile, $ref := $s.s3.profiles -}}
{{- $all = append $all (dict "entry" (printf "s3.profiles.%s" $profile) "for" "butler" "variable" (printf "LSST_RESOURCES_S3_PROFILE_%s" $profile) "ref" $ref) -}}
{{- end -}}
{{- $given := list -}}
{{- range $item := $all -}}{{- if $item.ref -}}{{- $given = append $given $item -}}{{- end -}}{{- end -}}
{{- dict "list" $given | toYaml -}}
{{- end }}

{{/* Name and key of the Secret that holds an entry; takes root and item. */}}
{{- define "autoingest.secretName" -}}
{{- if .item.ref.secret -}}{{ .item.ref.secret }}
{{- else if hasKey .item.ref "value" -}}{{ include "autoingest.fullname" .root }}-secrets
{{- else -}}{{ include "autoingest.fullname" .root }}-external
{{- end -}}
{{- end }}
{{- define "autoingest.secretKey" -}}{{ default .item.entry .item.ref.key }}{{- end }}

{{/* Environment of a container: the secrets it needs. Takes root and for: those of all, enqueue, presence, events and butler that it is. */}}
{{- define "autoingest.env" -}}
{{- $root := .root -}}
{{- $for := .for -}}
{{- range $item := (include "autoingest.secrets" $root | fromYaml).list }}
{{- $needed := false }}
{{- range kindIs "string" $item.for | ternary (list $item.for) $item.for }}{{- if has . $for }}{{- $needed = true }}{{- end }}{{- end }}
{{- if $needed }}
- name: {{ $item.variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "autoingest.secretName" (dict "root" $root "item" $item) }}
      key: {{ include "autoingest.secretKey" (dict "item" $item) | quote }}
{{- end }}
{{- end }}
{{- if and (has "butler" $for) $root.Values.secrets.dbAuth }}
- name: LSST_DB_AUTH
  value: /etc/autoingest/db-auth/db-auth.yaml
{{- end }}
{{- end }}

{{- define "autoingest.image" -}}
{{- $own := default dict (index .root.Values.roles .role).image -}}
{{- $all := .root.Values.image -}}
{{- printf "%s:%s" (default $all.repository $own.repository) (coalesce $own.tag $all.tag .root.Chart.AppVersion) -}}
{{- end }}

{{- define "autoingest.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "autoingest.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Type, annotations and what else a Service of ours takes from its values; takes service and path. */}}
{{- define "autoingest.serviceAnnotations" -}}
{{- $annotations := deepCopy (default dict .service.annotations) -}}
{{- if .service.metallb -}}
{{- if ne .service.type "LoadBalancer" -}}{{- fail (printf "%s.metallb: needs %s.type: LoadBalancer" .path .path) -}}{{- end -}}
{{- with .service.metallb.pool -}}{{- $_ := set $annotations "metallb.io/address-pool" . -}}{{- end -}}
{{- with .service.metallb.ip -}}{{- $_ := set $annotations "metallb.io/loadBalancerIPs" . -}}{{- end -}}
{{- end -}}
{{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}
{{- define "autoingest.serviceType" -}}
type: {{ .service.type }}
{{- if eq .service.type "LoadBalancer" }}
allocateLoadBalancerNodePorts: false
{{- end }}
{{- end }}
