{{/* Pod that sends a canary; takes root, and files: the name of its ConfigMap. */}}
{{- define "autoingest.canaryPod" -}}
restartPolicy: Never
serviceAccountName: {{ include "autoingest.fullname" .root | quote }}
automountServiceAccountToken: false
securityContext:
  {{- include "autoingest.podSecurity" .root | nindent 2 }}
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
containers:
  - name: canary
    image: {{ include "autoingest.image" (dict "root" .root "role" "enqueue") }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    {{- if .root.Values.tests.cephSpec }}
    args: [ceph, canary, --spec, /canary/ceph.yaml, --config, /etc/autoingest/config.yaml]
    {{- else }}
    command:
      - python
      - /canary/canary.py
      - http://{{ include "autoingest.roleName" (dict "root" .root "role" "enqueue") }}:{{ int .root.Values.roles.enqueue.service.port }}/notify
      - /etc/autoingest/config.yaml
    {{- end }}
    env:
      {{- include "autoingest.env" (dict "root" .root "for" (ternary (list "all" "enqueue" "butler") (list "all" "enqueue") (ne .root.Values.tests.cephSpec ""))) | trim | nindent 6 }}
    securityContext:
      {{- include "autoingest.containerSecurity" .root | nindent 6 }}
    resources:
      requests: {cpu: 100m, memory: 128Mi}
      limits: {cpu: "1", memory: 512Mi}
    volumeMounts:
      - {name: config, mountPath: /etc/autoingest/config.yaml, subPath: config.yaml, readOnly: true}
      - {name: canary, mountPath: /canary, readOnly: true}
      - {name: tmp, mountPath: /tmp}
volumes:
  - name: config
    configMap:
      name: {{ include "autoingest.fullname" .root | quote }}
  - name: canary
    configMap:
      name: {{ .files }}
  - name: tmp
    emptyDir: {}
{{- end }}
