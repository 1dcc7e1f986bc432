package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/internal/pattern"
	"github.com/locksidecar/locksidecar/internal/policy"
	"github.com/locksidecar/locksidecar/internal/traces"
	"github.com/locksidecar/locksidecar/socket"
)

// ErrNoBackend is returned for a configuration that names no backend.
var ErrNoBackend = errors.New("no backend is configured")

// The defaults.
const (
	DefaultSocket = "/run/locksidecar/api.sock"
	DefaultMode   = fs.FileMode(0o660)
	DefaultDrain  = 10 * time.Second
)

// Overrides are what flags and environment say; empty values say nothing.
type Overrides struct {
	// Backend is the URL of the one backend, instead of backends and routes.
	Backend string
	// Socket, Metrics and Traces replace socket.path, metrics and
	// traces.endpoint.
	Socket, Metrics, Traces string
	// Mode replaces socket.mode: octal, such as 0660.
	Mode string
	// PolicyFile names a file of its own, instead of the section policy.
	PolicyFile string
	// Admin and AdminToken replace admin.listen and admin.token_file.
	Admin, AdminToken string
	// Limits replace those that are not 0.
	Limits Limits
}

// Config is what is in force.
type Config struct {
	Socket  string
	Mode    fs.FileMode
	Metrics string
	Admin   Admin
	// Traces are off without an endpoint.
	Traces TracesSection
	// Backends are those to which a route leads, by name in order. The one that
	// has no name is called after its driver.
	Backends []Backend
	// Routes are never empty; the first that matches wins.
	Routes []Route
	// Classes name locks in metrics; the first that matches wins.
	Classes []Class
	Limits  Limits
	// Policy is nil if there is none.
	Policy *policy.Policy
	// Events is how many events are kept; 0 means the default.
	Events int
	// Sinks are where else events go.
	Sinks Sinks
	// NoDeadlocks: this sidecar does not look for deadlocks. BreakDeadlocks: it
	// refuses the victim of one.
	NoDeadlocks, BreakDeadlocks bool
	// Leave: at the end the leases are left for adoption.
	Leave bool
	// DrainTimeout bounds the end.
	DrainTimeout time.Duration
	// Replaced: the file has backends, and a flag or a variable replaces them.
	Replaced bool
	// Files are those which this was read from: when one changes, so may this.
	Files []string
}

// Backend is a store by its URL, which may have a password in it.
type Backend struct{ Name, URL string }

// Class names the locks of its patterns.
type Class struct {
	Match Patterns
	Name  string
}

// maxClasses bounds the classes of locks: each has series of its own for each
// backend.
const maxClasses = 20

// Route leads locks to a backend.
type Route struct {
	Match Patterns
	// Backend is its name, empty for the one that has none.
	Backend string
	// TTL is that of a lease whose request does not say; 0 means
	// backend.DefaultTTL.
	TTL time.Duration
	// MaxHold bounds the holds; 0 means no bound.
	MaxHold time.Duration
	// Line is where it stands in the file; 0 if it stands in none.
	Line int
}

// Route is the first that matches.
func (c *Config) Route(lockID string) (r *Route, ok bool) {
	for i := range c.Routes {
		if slices.ContainsFunc(c.Routes[i].Match, func(p pattern.Pattern) bool { return p.Match(lockID) }) {
			return &c.Routes[i], true
		}
	}
	return nil, false
}

// Compile makes of a file, or of none (nil), and of what was said elsewhere what
// is in force.
func (f *File) Compile(path string, o Overrides) (*Config, error) {
	c := &Config{
		Socket: DefaultSocket, Mode: DefaultMode, Metrics: o.Metrics, DrainTimeout: DefaultDrain, Limits: o.Limits,
	}
	if f == nil {
		f = &File{}
	} else {
		c.Files = append(c.Files, path)
	}
	if err := f.compile(c, o); err != nil {
		if len(c.Files) > 0 && !errors.Is(err, ErrNoBackend) {
			err = fmt.Errorf("configuration %s: %w", path, err)
		}
		return nil, err
	}
	return c, nil
}

func (f *File) compile(c *Config, o Overrides) error {
	if err := f.Admin.compile(&c.Admin, o); err != nil {
		return err
	}
	c.Socket = first(o.Socket, f.Socket.Path, DefaultSocket)
	c.Metrics = first(o.Metrics, f.Metrics)
	c.Traces = f.Traces
	if c.Traces.Endpoint = first(o.Traces, f.Traces.Endpoint); c.Traces.Endpoint != "" {
		if err := traces.ValidEndpoint(c.Traces.Endpoint); err != nil {
			return fmt.Errorf("traces.endpoint: %w", err)
		}
	}
	if f.Socket.Mode != 0 {
		c.Mode = fs.FileMode(f.Socket.Mode)
	}
	if o.Mode != "" {
		m, err := parseMode(o.Mode)
		if err != nil {
			return fmt.Errorf("the socket's mode %q: want an octal mode, such as 0660", o.Mode)
		}
		c.Mode = fs.FileMode(m)
	}
	c.Limits = c.Limits.over(f.Limits)
	c.Events = f.Events.Keep
	if err := f.sinks(c); err != nil {
		return err
	}
	c.NoDeadlocks = f.Deadlock.Detect == Off
	c.BreakDeadlocks = f.Deadlock.Resolve == ResolveYoungest
	c.Leave = f.Drain.Leases == Leave
	if f.Drain.Timeout > 0 {
		c.DrainTimeout = time.Duration(f.Drain.Timeout)
	}
	if err := f.classes(c); err != nil {
		return err
	}
	if err := f.access(c, o.PolicyFile); err != nil {
		return err
	}
	if o.Backend != "" {
		c.Backends = []Backend{{URL: o.Backend}}
		c.Routes = []Route{{Match: Patterns{{"**"}}}}
		c.Replaced = len(f.Backends) > 0
		return nil
	}
	if len(f.Backends) == 0 {
		return ErrNoBackend
	}
	if err := f.routes(c); err != nil {
		return err
	}
	return f.stores(c)
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (f *File) access(c *Config, file string) (err error) {
	switch {
	case file != "":
		c.Files = append(c.Files, file)
		c.Policy, err = policy.Load(file)
	case f.Policy != nil:
		c.Policy, err = f.Policy.Compile(policy.System)
	}
	return err
}

func (f *File) classes(c *Config) error {
	if len(f.LockClasses) > maxClasses {
		return fmt.Errorf("line %d: there are %d lock_classes; at most %d may be", f.LockClasses[maxClasses].Line, len(f.LockClasses), maxClasses)
	}
	for i := range f.LockClasses {
		switch s := &f.LockClasses[i]; {
		case len(s.Match) == 0:
			return fmt.Errorf("line %d: a class of locks needs %q", s.Line, "match")
		case s.Class == "":
			return fmt.Errorf("line %d: a class of locks needs %q", s.Line, "class")
		default:
			c.Classes = append(c.Classes, Class{s.Match, string(s.Class)})
		}
	}
	return nil
}

func (f *File) routes(c *Config) error {
	known := slices.Sorted(maps.Keys(f.Backends))
	if len(f.Routes) == 0 {
		if len(known) > 1 {
			return fmt.Errorf("line %d: there are %d backends and no routes to them", f.Line, len(known))
		}
		c.Routes = []Route{{Match: Patterns{{"**"}}, Backend: known[0]}}
		return nil
	}
	for i := range f.Routes {
		r := &f.Routes[i]
		name := r.Backend
		if name == "" && len(known) == 1 {
			name = known[0]
		}
		_, ok := f.Backends[name]
		switch ttl := time.Duration(r.TTL); {
		case len(r.Match) == 0:
			return fmt.Errorf("line %d: a route needs %q", r.Line, "match")
		case name == "":
			return fmt.Errorf("line %d: the route needs %q: there are several, %s", r.Line, "backend", strings.Join(known, ", "))
		case !ok:
			return fmt.Errorf("line %d: the route leads to the backend %q; there are %s", r.Line, name, strings.Join(known, ", "))
		case ttl != 0 && ttl < backend.MinTTL:
			return fmt.Errorf("line %d: the route's ttl is %v; the least is %v", r.Line, ttl, backend.MinTTL)
		}
		c.Routes = append(c.Routes, Route{
			Match: r.Match, Backend: name, TTL: time.Duration(r.TTL), MaxHold: time.Duration(r.MaxHold), Line: r.Line,
		})
	}
	return nil
}

// stores are the backends to which a route leads.
func (f *File) stores(c *Config) error {
	for _, name := range slices.Sorted(maps.Keys(f.Backends)) {
		b := f.Backends[name]
		if (b.URL == "") == (b.URLFile == "") {
			return fmt.Errorf("line %d: the backend %q needs url or url_file, one of the two", b.Line, name)
		}
		if b.URLFile != "" {
			c.Files = append(c.Files, b.URLFile)
			raw, err := read(b.URLFile)
			if b.URL = strings.TrimSpace(string(raw)); err == nil && b.URL == "" {
				err = errors.New("the file is empty")
			}
			if err != nil {
				return fmt.Errorf("line %d: url_file of the backend %q: %w", b.Line, name, err)
			}
		}
		if slices.ContainsFunc(c.Routes, func(r Route) bool { return r.Backend == name }) {
			c.Backends = append(c.Backends, Backend{name, b.URL})
		}
	}
	return nil
}

// Peer are the limits as the socket knows them.
func (l Limits) Peer() socket.Limits {
	return socket.Limits{
		Connections: l.Connections, Leases: l.Leases, Waiters: l.Waiters, Calls: l.Calls, Streams: l.Streams,
		Message: l.Message, Headers: l.Headers, Reason: l.Reason,
	}
}

// Sizes are the limits as a store knows them.
func (l Limits) Sizes() backend.Limits {
	return backend.Limits{OwnerID: l.OwnerID, MetadataKeys: l.MetadataKeys, MetadataBytes: l.MetadataBytes, PageSize: l.Page}
}
