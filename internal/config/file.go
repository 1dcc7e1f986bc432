package config

import (
	"github.com/locksidecar/locksidecar/internal/policy"
)

// File is the configuration as it is written. The tags are what the decoder and
// the JSON Schema are made of: yaml is the key, doc what it means, default what
// holds without it.
type File struct {
	Socket      SocketSection             `yaml:"socket" doc:"The Unix socket on which applications are served."`
	Admin       AdminSection              `yaml:"admin" doc:"The listener for operators: a page and the API's reading calls, over TCP. Without listen there is none."`
	Metrics     string                    `yaml:"metrics" doc:"Address of /metrics, /healthz and /readyz, such as :9718. Without it there is no such listener."`
	Traces      TracesSection             `yaml:"traces" doc:"Where spans of what is done for an application's call are sent. Without it there are none."`
	LockClasses []ClassSection            `yaml:"lock_classes" doc:"What locks are called in metrics, which never have a lock's id: the first class that matches. Locks that none matches are of the class other. At most 20."`
	Backends    map[string]BackendSection `yaml:"backends" doc:"The stores, by the names that routes, status, health and metrics have for them: lower-case letters, digits, - and _."`
	Routes      []RouteSection            `yaml:"routes" doc:"Which backend has which locks: the first route that matches wins. Without routes there is one backend, and it has all."`
	Limits      Limits                    `yaml:"limits" doc:"What one peer may have at a time, and how large its requests may be."`
	Policy      *policy.Section           `yaml:"policy" doc:"Who may acquire, inspect and force which locks. Without it, whoever may open the socket may do everything."`
	Events      EventsSection             `yaml:"events" doc:"The events that Watch tells, and where else they go."`
	Deadlock    DeadlockSection           `yaml:"deadlock" doc:"What is done about owners who wait for each other."`
	Drain       DrainSection              `yaml:"drain" doc:"What happens on SIGTERM."`
	// Line is where Backends stand.
	Line int `yaml:"-"`
}

// SocketSection is about the socket.
type SocketSection struct {
	Path string `yaml:"path" doc:"Its path." default:"/run/locksidecar/api.sock"`
	Mode Mode   `yaml:"mode" doc:"Its mode, in octal and in quotes. In a pod the shared directory is the boundary: \"0666\" there." default:"0660"`
}

// AdminSection is about the listener for operators.
type AdminSection struct {
	Listen    string   `yaml:"listen" doc:"Its address, such as 127.0.0.1:9717. On another address than one of the loopback it needs tls_cert and tls_key."`
	TokenFile string   `yaml:"token_file" doc:"A file with the bearer token, 16 characters or more, which is read for each request. It needs this or client_ca."`
	TLSCert   string   `yaml:"tls_cert" doc:"The listener's certificate, as a PEM file."`
	TLSKey    string   `yaml:"tls_key" doc:"The key of tls_cert."`
	ClientCA  string   `yaml:"client_ca" doc:"The authorities, as a PEM file, whose certificates let an operator in."`
	Hosts     []string `yaml:"hosts" doc:"Further names, without a port, under which operators reach the listener: a request that names another one is refused."`
	Write     Switch   `yaml:"write" doc:"Whether an operator may force-release, cancel-waiter and reprioritize there." default:"false"`
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

// TracesSection is about OpenTelemetry.
type TracesSection struct {
	Endpoint string `yaml:"endpoint" doc:"The collector's URL, by OTLP over gRPC: http://127.0.0.1:4317, or https:// by TLS."`
	OneIn    int    `yaml:"one_in" doc:"Of the calls whose application does not say whether they are to be traced, one in so many is." default:"1"`
}

// ClassSection names the locks of its patterns, for metrics.
type ClassSection struct {
	Match Patterns `yaml:"match" doc:"One pattern of lock ids, or a list of them, as for routes."`
	Class Name     `yaml:"class" doc:"The label lock_class of these locks: lower-case letters, digits, - and _."`
	Line  int      `yaml:"-"`
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
	Keep     int                       `yaml:"keep" doc:"How many events are kept, for a watcher that comes back and for a sink that cannot take them." default:"16384"`
	Sidecar  string                    `yaml:"sidecar" doc:"This sidecar's name in the audit log and in webhooks. Without it, the host's."`
	Audit    AuditSection              `yaml:"audit" doc:"A file with a line for each event. Without a path there is none."`
	Webhooks map[string]WebhookSection `yaml:"webhooks" doc:"Consumers to which events are posted as CloudEvents, by names for metrics and the log."`
}

// AuditSection is about the audit log.
type AuditSection struct {
	Path     string `yaml:"path" doc:"The file, which belongs to this sidecar alone."`
	MaxBytes int    `yaml:"max_bytes" doc:"Its size beyond which it is rotated." default:"104857600"`
	Keep     int    `yaml:"keep" doc:"How many older files are kept, as PATH.1 (the youngest) and so on." default:"10"`
}

// WebhookSection is one consumer of events.
type WebhookSection struct {
	URL       string   `yaml:"url" doc:"Where events are posted to, without credentials."`
	CAFile    string   `yaml:"ca_file" doc:"The certificates that may vouch for the consumer. Without it, the system's."`
	CertFile  string   `yaml:"cert_file" doc:"The sidecar's own certificate."`
	KeyFile   string   `yaml:"key_file" doc:"Its key."`
	TokenFile string   `yaml:"token_file" doc:"A file with a bearer token, read for each attempt."`
	Timeout   Duration `yaml:"timeout" doc:"How long an attempt may take." default:"5s"`
	GiveUp    Duration `yaml:"give_up" doc:"After how long an event is dropped that the consumer does not take." default:"1h"`
	Parallel  int      `yaml:"parallel" doc:"How many events are on their way at a time; those of one lock go one after the other." default:"4"`
	Source    string   `yaml:"source" doc:"The source of the events. Without it, /locksidecar/backends/ and the backend's name."`
	Line      int      `yaml:"-"`
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
