{{/* The one name of every object: a contract with the router and the Workflow controller, so no value changes it. */}}
{{- define "router.name" -}}
drycc-router
{{- end }}

{{- define "router.selector" -}}
app.kubernetes.io/name: {{ include "router.name" . }}
app.kubernetes.io/component: proxy
{{- end }}

{{/* Labels of an object. The argument is (list $ "component"). */}}
{{- define "router.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "router.name" $root }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: workflow
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{- define "router.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "router.name" .) }}
{{- end }}

{{- define "router.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Router-wide settings as annotations. Helm reads whole numbers as floats, and would print 15552000 as 1.5552e+07. */}}
{{- define "router.annotations" -}}
{{- range $key, $value := .Values.routerAnnotations }}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}
{{- $value = int64 $value }}
{{- end }}
router.drycc.cc/{{ $key }}: {{ $value | toString | quote }}
{{- end }}
{{- if .Values.tcpPorts }}
{{- $mappings := list }}
{{- range $port, $service := .Values.tcpPorts }}
{{- $mappings = append $mappings (printf "%s:%s" $port $service) }}
{{- end }}
router.drycc.cc/tcpPorts: {{ join ", " $mappings | quote }}
{{- end }}
{{- /* Clients of a single server reach https on the node's port. */}}
{{- if and .Values.hostPorts.enabled (ne (int .Values.hostPorts.https) 443) (not (hasKey .Values.routerAnnotations "httpsPort")) }}
router.drycc.cc/httpsPort: {{ int .Values.hostPorts.https | quote }}
{{- end }}
{{- with .Values.deploymentAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A workload's Pods. The argument is (dict "root" $ "component" "..."). */}}
{{- define "router.podTemplate" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- with $root.Values -}}
metadata:
  labels:
    app.kubernetes.io/name: {{ include "router.name" $root }}
    app.kubernetes.io/component: {{ $component }}
    app.kubernetes.io/part-of: workflow
    {{- with .podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "router.serviceAccount" $root }}
  automountServiceAccountToken: true
  # A variable per Service of the namespace is of no use here, and there may be thousands.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add .settings.drainDelaySeconds .settings.drainGraceSeconds 5 }}
  {{- with .priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: router
      image: {{ include "router.image" $root | quote }}
      imagePullPolicy: {{ .image.pullPolicy }}
      args:
        - run
        - --drain-delay={{ .settings.drainDelaySeconds }}
        - --drain-grace={{ .settings.drainGraceSeconds }}
        - --log-level={{ .settings.logLevel }}
        {{- if and .git.enabled (eq .git.mode "gateway") }}
        - --git-gateway=/etc/drycc-router/git
        {{- end }}
        - --access-log={{ ternary "-" "off" .settings.accessLog }}
        {{- with .settings.workers }}
        - --workers={{ . }}
        {{- end }}
        {{- with .settings.watchNamespaces }}
        - --watch-namespaces={{ join "," . }}
        {{- end }}
      env:
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        # Addresses that no app may name as an endpoint: the Pod's own, and the node's on ports of Kubernetes components.
        - name: POD_IPS
          valueFrom:
            fieldRef:
              fieldPath: status.podIPs
        - name: HOST_IPS
          valueFrom:
            fieldRef:
              fieldPath: status.hostIPs
        {{- if .hostPorts.enabled }}
        - name: HOST_PORTS
          value: {{ concat (list .hostPorts.http .hostPorts.https .hostPorts.git) (keys .tcpPorts | sortAlpha) | join "," | quote }}
        {{- end }}
      ports:
        - name: http
          containerPort: 8080
          {{- if .hostPorts.enabled }}
          hostPort: {{ .hostPorts.http }}
          {{- end }}
        - name: https
          containerPort: 8443
          {{- if .hostPorts.enabled }}
          hostPort: {{ .hostPorts.https }}
          {{- end }}
        {{- if .git.enabled }}
        - name: git
          containerPort: 2222
          {{- if .hostPorts.enabled }}
          hostPort: {{ .hostPorts.git }}
          {{- end }}
        {{- end }}
        {{- range $port, $_ := .tcpPorts }}
        - name: tcp-{{ $port }}
          containerPort: {{ $port }}
          {{- if $root.Values.hostPorts.enabled }}
          hostPort: {{ $port }}
          {{- end }}
        {{- end }}
        - name: admin
          containerPort: 9090
      # Alive: the event loop turns. Depends on nothing else, so no outage elsewhere can restart the router.
      livenessProbe:
        httpGet: {path: /healthz, port: admin}
        initialDelaySeconds: 5
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      # Ready: the first complete table is in force, and no drain has begun.
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 3
      securityContext:
        allowPrivilegeEscalation: false
        privileged: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      resources:
        {{- toYaml .resources | nindent 8 }}
      {{- if and .git.enabled (eq .git.mode "gateway") }}
      volumeMounts:
        - {name: git, mountPath: /etc/drycc-router/git, readOnly: true}
  volumes:
    - name: git
      secret: {secretName: {{ .git.secret }}, defaultMode: 0444}
  {{- end }}
  {{- with .nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and .topologySpread.enabled (eq .kind "Deployment") }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: {{ .topologySpread.whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "router.selector" $root | nindent 10 }}
      # Each generation of a rollout is spread by itself.
      matchLabelKeys: [pod-template-hash]
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "router.selector" $root | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}
