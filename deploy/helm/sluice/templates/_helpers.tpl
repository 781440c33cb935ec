{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/part-of: sluice
{{- end }}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sluice.isHost" -}}
{{- if eq .Values.datapath "host" }}true{{ end }}
{{- end }}

{{- /* Whether the addresses of the chart's own Service are served by eBPF. */ -}}
{{- define "sluice.adoptsService" -}}
{{- if and .Values.service.enabled .Values.service.adopt (not (include "sluice.isHost" .)) }}true{{ end }}
{{- end }}

{{- /* Seconds: announcers of an address need longer than load balancers that probe. */ -}}
{{- define "sluice.shutdownDelay" -}}
{{- if not (kindIs "invalid" .Values.shutdownDelay) }}{{ .Values.shutdownDelay }}
{{- else if .Values.service.enabled }}10
{{- else }}5
{{- end }}
{{- end }}

{{- /* The flag for an ACME issuer. */ -}}
{{- define "sluice.acmeIssuer" -}}
{{- if not .termsAgreed }}{{ fail (printf "acme issuer %s: termsAgreed has to be true" .name) }}{{ end -}}
--acme-issuer={{ .name }}={{ .directory }},terms=agreed
{{- with .contact }},contact={{ . }}{{ end }}
{{- with .challenge }},challenge={{ . }}{{ end }}
{{- with .key }},key={{ . }}{{ end }}
{{- if .caSecret }},ca-file=/etc/sluice/acme/{{ .name }}/ca/ca.crt{{ end }}
{{- if (.externalAccount).secret }},eab-key-id={{ .externalAccount.keyId }},eab-key-file=/etc/sluice/acme/{{ .name }}/eab/key{{ end }}
{{- end }}
