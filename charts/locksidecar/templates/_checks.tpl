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
{{- $validity := include "locksidecar.seconds" .validity | float64 -}}
{{- if lt $validity 3600.0 -}}
{{- fail (printf "certificates.validity is %s: want at least 1h" .validity) -}}
{{- end -}}
{{- if gt (include "locksidecar.seconds" .rotateBefore | float64) (divf $validity 2) -}}
{{- fail (printf "certificates.rotateBefore is %s: want at most half of certificates.validity, which is %s" .rotateBefore .validity) -}}
{{- end -}}
{{- end -}}
{{- range $whose, $resources := dict "sidecar" .Values.sidecar.resources "injector" .Values.injector.resources -}}
{{- $requests := dig "requests" nil ($resources | default dict) | default dict -}}
{{- $limits := dig "limits" nil ($resources | default dict) | default dict -}}
{{- range $what, $quantities := dict "requests" $requests "limits" $limits -}}
{{- range $name, $q := $quantities -}}
{{- if and (eq $whose "sidecar") (eq (include "locksidecar.quantity" $q | float64) 0.0) -}}
{{- fail (printf "sidecar.resources.%s.%s is %v: want more than 0" $what $name $q) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $request := $requests -}}
{{- if hasKey $limits $name -}}
{{- $limit := get $limits $name -}}
{{- if gt (include "locksidecar.quantity" $request | float64) (include "locksidecar.quantity" $limit | float64) -}}
{{- fail (printf "%s.resources.requests.%s is %v, and %s.resources.limits.%s is %v: want a request that is not above the limit" $whose $name $request $whose $name $limit) -}}
{{- end -}}
{{- end -}}
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

{{/* A length of time such as 1h30m, in seconds; "" is 0. */}}
{{- define "locksidecar.seconds" -}}
{{- $units := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+[a-z]+" . -1 -}}
{{- $sum = addf $sum (mulf (regexFind "^[0-9.]+" .) (get $units (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- $sum -}}
{{- end }}

{{/* A quantity of a resource such as 250m, 64Mi or 1e3, as a number. */}}
{{- define "locksidecar.quantity" -}}
{{- $units := dict "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18
      "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- $unit := regexFind "([numkMGTPE]|[KMGTPE]i)$" (toString .) -}}
{{- mulf (trimSuffix $unit (toString .) | float64) (get $units $unit | default 1) -}}
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
