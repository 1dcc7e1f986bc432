package logging

import (
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// hidden stands for a secret.
const hidden = "[redacted]"

var (
	// password is that of a URL in any text: what stands between a user and a
	// host. Slashes are allowed in it, because people forget to escape them.
	password = regexp.MustCompile(`(://[^\s/:@"']*):[^\s"']*@`)
	// parameter is a secret among the parameters of a URL.
	parameter = regexp.MustCompile(`(?i)([?&](?:password|secret|token|key)=)[^&\s"']+`)
	// random is 128 bits in hexadecimal.
	random = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
)

// secretKeys are keys whose values are secrets.
var secretKeys = map[string]bool{"lease_id": true, "request_id": true, "password": true, "secret": true}

// Secrets are those that no line may have. The zero value has none. It is safe
// for concurrent use.
type Secrets struct {
	mu       sync.Mutex
	known    []string
	replacer atomic.Pointer[strings.Replacer]
}

// Add registers secrets, for the lines from now on.
func (r *Secrets) Add(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		if s != "" && !slices.Contains(r.known, s) {
			r.known = append(r.known, s)
		}
	}
	var pairs []string
	for _, s := range r.known {
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s), strings.Trim(fmt.Sprintf("%q", s), `"`)} {
			if form != "" {
				pairs = append(pairs, form, hidden)
			}
		}
	}
	r.replacer.Store(strings.NewReplacer(pairs...))
}

// Hide takes the registered secrets out of a text.
func (r *Secrets) Hide(text string) string {
	if known := r.replacer.Load(); known != nil {
		return known.Replace(text)
	}
	return text
}

type redaction struct{ registered *Secrets }

func newRedaction(secrets *Secrets) *redaction {
	if secrets == nil {
		secrets = &Secrets{}
	}
	return &redaction{secrets}
}

// text takes the secrets out of a text.
func (r *redaction) text(s string) string {
	s = r.registered.Hide(s)
	if strings.Contains(s, "://") {
		s = password.ReplaceAllString(s, "$1:"+hidden+"@")
	}
	s = parameter.ReplaceAllString(s, "$1"+hidden)
	return random.ReplaceAllString(s, hidden)
}

// attribute takes them out of an attribute, of a group's too: a handler calls it
// for each.
func (r *redaction) attribute(_ []string, a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch {
	case secretKeys[a.Key]:
		return slog.String(a.Key, hidden)
	case v.Kind() == slog.KindString:
		return slog.String(a.Key, r.text(v.String()))
	case v.Kind() == slog.KindAny:
		switch x := v.Any().(type) {
		case *slog.Source, slog.Level:
		case nil:
		default:
			return slog.String(a.Key, r.text(fmt.Sprint(x)))
		}
	}
	return a
}
