package app

import (
	"context"
	"fmt"
	"net/url"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/config"
)

// Check says whether the daemon could begin to serve by this configuration. It
// reads the files that the backends' URLs name, and connects to nothing; the
// file of an embedded store is left alone, since a daemon may have it.
func Check(ctx context.Context, c *config.Config) error {
	longest := make(map[string]driver.Capabilities)
	for _, at := range c.Backends {
		if u, err := url.Parse(at.URL); err == nil && u.Scheme == "embedded" && u.Path != "" {
			continue
		}
		d, err := OpenDriver(ctx, at.URL, driver.Env{})
		if err != nil {
			return fmt.Errorf("backend %q: %w", at.Name, err)
		}
		longest[at.Name] = d.Capabilities()
		if err := d.Close(); err != nil {
			return fmt.Errorf("backend %q: %w", at.Name, err)
		}
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		if most, ok := longest[r.Backend]; ok {
			if err := withinTTL(r, most); err != nil {
				return err
			}
		}
	}
	return checkSinks(&c.Sinks)
}

// withinTTL says whether a backend takes the route's TTL.
func withinTTL(r *config.Route, c driver.Capabilities) error {
	if r.TTL <= c.MaxTTL {
		return nil
	}
	return fmt.Errorf("line %d: the route's ttl is %v; the most on the backend %q is %v", r.Line, r.TTL, r.Backend, c.MaxTTL)
}
