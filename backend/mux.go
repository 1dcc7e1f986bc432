package backend

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Mux opens drivers by their URLs' schemes. The zero value knows none.
type Mux struct{ openers map[string]driver.Opener }

// Register adds the opener of one or more schemes. Registering a scheme twice
// is a programming error and panics.
func (m *Mux) Register(schemes []string, open driver.Opener) {
	if m.openers == nil {
		m.openers = make(map[string]driver.Opener)
	}
	for _, s := range schemes {
		if m.openers[s] != nil {
			panic("backend: scheme " + s + " registered twice")
		}
		m.openers[s] = open
	}
}

// Schemes lists the known schemes in order.
func (m *Mux) Schemes() []string { return slices.Sorted(maps.Keys(m.openers)) }

// Open opens the driver of a backend URL. Its errors never contain the URL's
// password.
func (m *Mux) Open(ctx context.Context, rawURL string, env driver.Env) (driver.Driver, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The parser's error quotes the URL, and with it what is secret in it.
		return nil, fmt.Errorf("backend URL: %w: it cannot be parsed; known schemes are %s", driver.ErrInvalid, strings.Join(m.Schemes(), ", "))
	}
	open := m.openers[u.Scheme]
	if open == nil {
		return nil, fmt.Errorf("backend URL %s: %w: unknown scheme %q; known are %s", plain(u), driver.ErrInvalid, u.Scheme, strings.Join(m.Schemes(), ", "))
	}
	d, err := open(ctx, u, env)
	if err != nil {
		return nil, fmt.Errorf("backend URL %s: %w", plain(u), err)
	}
	return d, nil
}

// plain is what of a URL may be shown: a password stands before the host, and,
// where somebody put it by mistake, in the query or instead of a host.
func plain(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
