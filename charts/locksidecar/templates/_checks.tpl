{{/* What the schema cannot say, or not clearly. */}}
{{- define "locksidecar.check" -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository is required: there is no public image of locksidecar yet. `make image` in its repository makes one; push it to your registry and set image.repository to it (values-dev.yaml uses the local name localhost/locksidecar)" -}}
{{- end -}}
{{- if not .Values.config.backends -}}
{{- fail "config.backends is required: say where the locks are, such as config.backends.main.url=redis://redis:6379; to try it: -f values-dev.yaml" -}}
{{- end -}}
{{- if and (not .Values.fullnameOverride) (regexMatch "^[0-9]" .Release.Name) -}}
{{- fail (printf "the release's name %q begins with a digit, and the name of a Service must begin with a letter: set fullnameOverride, such as fullnameOverride=locksidecar" .Release.Name) -}}
{{- end -}}
{{- $known := keys (.Values.config.backends | default dict) | sortAlpha -}}
{{- $names := dict "config.backends" $known "config.events.webhooks" (keys (dig "events" "webhooks" dict .Values.config) | sortAlpha) -}}
{{- range $where, $all := $names -}}
{{- range $all -}}
{{- if not (regexMatch "^[a-z0-9][a-z0-9_-]{0,62}$" .) -}}
{{- fail (printf "%s: the name %q: want up to 63 lower-case letters, digits, - and _" $where .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (gt (len $known) 1) (not .Values.config.routes) -}}
{{- fail (printf "config.routes is required: there are several backends (%s), and nothing says which locks are whose" (join ", " $known)) -}}
{{- end -}}
{{- range $i, $route := .Values.config.routes -}}
{{- if and $route.backend (not (has $route.backend $known)) -}}
{{- fail (printf "config.routes[%d].backend is %q; config.backends has %s" $i $route.backend (join ", " $known)) -}}
{{- end -}}
{{- if and (not $route.backend) (gt (len $known) 1) -}}
{{- fail (printf "config.routes[%d].backend is required: config.backends has %s" $i (join ", " $known)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $b := .Values.config.backends -}}
{{- $url := $b.url | default "" -}}
{{- if regexMatch "^[a-z+]+://[^/?#]*:[^/?#]*@" $url -}}
{{- fail (printf "config.backends.%s.url has a password, which everybody could read in the annotations of each pod: name a Secret in secrets, and its file by password_file in the URL or by url_file" $name) -}}
{{- end -}}
{{- if and (hasPrefix "embedded:/" $url) (not (hasPrefix "embedded:///run/locksidecar/" $url)) -}}
{{- fail (printf "config.backends.%s.url: a sidecar can write in /run/locksidecar alone, such as embedded:///run/locksidecar/locks.db" $name) -}}
{{- end -}}
{{- end -}}
{{- with dig "events" "audit" "path" "" .Values.config -}}
{{- if not (hasPrefix "/run/locksidecar/" .) -}}
{{- fail "config.events.audit.path: a sidecar can write in /run/locksidecar alone, such as /run/locksidecar/audit.jsonl" -}}
{{- end -}}
{{- end -}}
{{- with .Values.certificates -}}
{{- if and (or .caBundle .certManager) (not .existingSecret) -}}
{{- fail "certificates.existingSecret is required with certificates.caBundle or certificates.certManager: without it the injector makes its own certificate and its own authority" -}}
{{- end -}}
{{- if and .caBundle .certManager -}}
{{- fail "certificates.caBundle and certificates.certManager: want one of the two" -}}
{{- end -}}
{{- end -}}
{{- if eq (int .Values.injector.port) (int .Values.injector.metricsPort) -}}
{{- fail (printf "injector.port and injector.metricsPort are both %d" (int .Values.injector.port)) -}}
{{- end -}}
{{- $variables := list -}}
{{- range .Values.env -}}
{{- if has .name $variables -}}
{{- fail (printf "env: %s is given twice" .name) -}}
{{- end -}}
{{- $variables = append $variables .name -}}
{{- if hasPrefix "LOCKSIDECAR_" .name -}}
{{- fail (printf "env: %s: variables of that kind are the injector's matter; say it in config" .name) -}}
{{- end -}}
{{- end -}}
{{- $paths := list -}}
{{- range .Values.secrets -}}
{{- if has .path $paths -}}
{{- fail (printf "secrets: the path %q is given twice" .path) -}}
{{- end -}}
{{- $paths = append $paths .path -}}
{{- end -}}
{{- end }}

{{/* "true" if the injector writes the webhook's authorities. */}}
{{- define "locksidecar.bundle" -}}
{{- if not (or .Values.certificates.caBundle .Values.certificates.certManager) -}}true{{- end -}}
{{- end }}

{{/* "true" if a backend is on a store of its own, which can be new. */}}
{{- define "locksidecar.shared" -}}
{{- range $name, $b := .Values.config.backends -}}
{{- if not (hasPrefix "embedded:" ($b.url | default "")) -}}true{{- end -}}
{{- end -}}
{{- end }}
