package config

import (
	"github.com/locksidecar/locksidecar/internal/policy"
)

// File is the configuration as it is written. The tags are what the decoder and
// the JSON Schema are made of: yaml is the key, doc what it means, default what
// holds without it.
type File struct {
	Socket   SocketSection             `yaml:"socket" doc:"The Unix socket on which applications are served."`
	Admin    string                    `yaml:"admin" doc:"Address of the admin listener. This version has none: it must be left out, or empty."`
	Metrics  string                    `yaml:"metrics" doc:"Address of /metrics, /healthz and /readyz, such as :9718. Without it there is no such listener."`
	Backends map[string]BackendSection `yaml:"backends" doc:"The stores, by the names that routes, status, health and metrics have for them: lower-case letters, digits, - and _."`
	Routes   []RouteSection            `yaml:"routes" doc:"Which backend has which locks: the first route that matches wins. Without routes there is one backend, and it has all."`
	Limits   Limits                    `yaml:"limits" doc:"What one peer may have at a time, and how large its requests may be."`
	Policy   *policy.Section           `yaml:"policy" doc:"Who may acquire, inspect and force which locks. Without it, whoever may open the socket may do everything."`
	Events   EventsSection             `yaml:"events" doc:"The events that Watch tells."`
	Deadlock DeadlockSection           `yaml:"deadlock" doc:"What is done about owners who wait for each other."`
	Drain    DrainSection              `yaml:"drain" doc:"What happens on SIGTERM."`
	// Line is where Backends stand.
	Line int `yaml:"-"`
}

// SocketSection is about the socket.
type SocketSection struct {
	Path string `yaml:"path" doc:"Its path." default:"/run/locksidecar/api.sock"`
	Mode Mode   `yaml:"mode" doc:"Its mode, in octal and in quotes. In a pod the shared directory is the boundary: \"0666\" there." default:"0660"`
}

// BackendSection is one store.
type BackendSection struct {
	URL     string `yaml:"url" doc:"Its URL, such as redis://host:6379?password_file=/run/secrets/redis."`
	URLFile string `yaml:"url_file" doc:"A file that has the URL, for one with a secret in it. A change of the file is a change of the configuration."`
	Line    int    `yaml:"-"`
}

// RouteSection leads the locks of its patterns to a backend.
type RouteSection struct {
	Match   Patterns `yaml:"match" doc:"One pattern of lock ids, or a list of them: * is one segment, ** at the end is the rest, one segment or more."`
	Backend string   `yaml:"backend" doc:"The name of the backend. It may be left out while there is only one."`
	TTL     Duration `yaml:"ttl" doc:"The TTL of a lease whose request does not say." default:"15s"`
	MaxHold Duration `yaml:"max_hold" doc:"The longest that a Hold stream may keep a lease: a request may ask for less, not for more. Without it there is no bound."`
	Line    int      `yaml:"-"`
}

// Limits are the numbers that bound peers and requests; 0 means the default.
type Limits struct {
	Connections   int `yaml:"connections" doc:"connections of one peer" default:"256"`
	Leases        int `yaml:"leases" doc:"leases held for one peer" default:"10000"`
	Waiters       int `yaml:"waiters" doc:"unanswered acquires of one peer" default:"10000"`
	Calls         int `yaml:"calls" doc:"calls and streams of one peer under way" default:"20000"`
	Streams       int `yaml:"streams" doc:"gRPC calls under way on one connection" default:"1000"`
	Message       int `yaml:"message" doc:"bytes of a request" default:"65536"`
	Headers       int `yaml:"headers" doc:"bytes of a request's headers" default:"16384"`
	Reason        int `yaml:"reason" doc:"bytes of the reason of a force-release" default:"512"`
	OwnerID       int `yaml:"owner_id" doc:"bytes of an owner id" default:"128"`
	MetadataKeys  int `yaml:"metadata_keys" doc:"keys of a lease's metadata" default:"16"`
	MetadataBytes int `yaml:"metadata_bytes" doc:"bytes of a lease's metadata" default:"4096"`
	Page          int `yaml:"page" doc:"locks on a page of a listing" default:"1000"`
}

// EventsSection is about the log of events.
type EventsSection struct {
	Keep int `yaml:"keep" doc:"How many events are kept for a watcher that comes back." default:"16384"`
}

// DeadlockSection is about owners who wait for each other.
type DeadlockSection struct {
	Detect  Switch  `yaml:"detect" doc:"Whether this sidecar looks for deadlocks while somebody waits in it who names its owner." default:"true"`
	Resolve Resolve `yaml:"resolve" doc:"none: a deadlock is told. youngest-waiter: it is broken, by refusing the waiter whose lease in it is the youngest, if it waits in this sidecar." default:"none"`
}

// DrainSection is about the end of the process.
type DrainSection struct {
	Leases  Leases   `yaml:"leases" doc:"release: what Hold streams hold is released. leave: it stands until its TTL, for the applications to adopt it on the next process." default:"release"`
	Timeout Duration `yaml:"timeout" doc:"How long the stop may take." default:"10s"`
}
