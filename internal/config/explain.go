package config

import (
	"net/url"
	"time"
)

// Explanation says to which backend a lock is led, and why.
type Explanation struct {
	LockID string `json:"lock_id"`
	// Steps are the routes that were looked at, in order; the last one is the
	// winner, if there is one.
	Steps []Step `json:"routes"`
	// Backend is the name of the winner's; empty if no route matches, or for
	// the one that has no name.
	Backend string `json:"backend"`
	// Store is the backend's URL without what may be secret in it.
	Store   string `json:"store,omitempty"`
	Matched bool   `json:"matched"`
	// TTL and MaxHold are the winner's, empty if it does not say.
	TTL     string `json:"ttl,omitempty"`
	MaxHold string `json:"max_hold,omitempty"`
}

// Step is one route that was looked at.
type Step struct {
	Route int `json:"route"` // from 1
	Line  int `json:"line,omitempty"`
	// Pattern is the one that matched, or all of the route's.
	Pattern string `json:"pattern"`
	// Why says why it does not match; empty: it does.
	Why string `json:"why_not,omitempty"`
}

// Explain says which route wins for a lock.
func (c *Config) Explain(lockID string) *Explanation {
	e := &Explanation{LockID: lockID}
	for i := range c.Routes {
		r := &c.Routes[i]
		for _, p := range r.Match {
			s := Step{Route: i + 1, Line: r.Line, Pattern: p.String(), Why: p.Mismatch(lockID)}
			e.Steps = append(e.Steps, s)
			if s.Why == "" {
				e.Matched, e.Backend, e.TTL, e.MaxHold = true, r.Backend, said(r.TTL), said(r.MaxHold)
				e.Store = c.store(r.Backend)
				return e
			}
		}
	}
	return e
}

func said(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func (c *Config) store(name string) string {
	for _, b := range c.Backends {
		if b.Name == name {
			return b.Plain()
		}
	}
	return ""
}

// Plain is the backend's URL without user, password and parameters.
func (b Backend) Plain() string {
	u, err := url.Parse(b.URL)
	if err != nil {
		return "" // nothing of it can be told from a secret
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
