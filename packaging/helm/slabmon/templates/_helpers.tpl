{{- /*
SPDX-License-Identifier: Apache-2.0
*/ -}}
{{- define "slabmon.selector" -}}
app.kubernetes.io/name: slabmon
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "slabmon.labels" -}}
{{ include "slabmon.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}
{{- define "slabmon.metadata" -}}
name: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "slabmon.labels" . | nindent 2 }}
{{- end }}
