package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/internal/config"
)

// The variables that stand between the flags and the file.
const (
	configVariable  = "LOCKSIDECAR_CONFIG"
	backendVariable = "LOCKSIDECAR_BACKEND"
	socketVariable  = "LOCKSIDECAR_SOCKET"
	modeVariable    = "LOCKSIDECAR_SOCKET_MODE"
	metricsVariable = "LOCKSIDECAR_METRICS"
	tracesVariable  = "LOCKSIDECAR_TRACES"
	policyVariable  = "LOCKSIDECAR_POLICY"
	adminVariable   = "LOCKSIDECAR_ADMIN"
)

// settings are from where the configuration comes: flags, over the environment,
// over the file.
type settings struct {
	file string
	o    config.Overrides
}

// configFlag is --config.
func (s *settings) configFlag(c *cobra.Command) {
	c.Flags().StringVar(&s.file, "config", "", "the configuration file (default $"+configVariable+", then none)")
}

// flags are those that win over the file.
func (s *settings) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.o.Backend, "backend", "", "URL of the one backend, instead of the file's: redis://host:port, rediss://, redis+unix:///path, embedded:///path (a file) or embedded: (memory)")
	f.StringVar(&s.o.Socket, "socket", "", "path of the socket (default "+config.DefaultSocket+")")
	f.StringVar(&s.o.Mode, "socket-mode", "", "mode of the socket, in octal (default 0660)")
	f.StringVar(&s.o.Metrics, "metrics", "", "address of /metrics, /healthz and /readyz, such as :9718 (default none)")
	f.StringVar(&s.o.Traces, "traces", "", "URL of the collector of traces, by OTLP over gRPC, such as http://127.0.0.1:4317 (default none)")
	f.StringVar(&s.o.Admin, "admin", "", "address of the page and the API for operators, such as "+config.DefaultAdmin+" (default none); it needs a token or certificates")
	f.StringVar(&s.o.AdminToken, "admin-token-file", "", "file with the bearer token of --admin")
	f.StringVar(&s.o.PolicyFile, "policy", "", "file that says who may acquire, inspect and force which locks (default: whoever may open the socket)")
	for _, l := range s.o.Limits.All() {
		f.IntVar(l.Value, "limit-"+l.Name, 0, l.Usage)
	}
}

// environment fills in what no flag said.
func (s *settings) environment() {
	s.file = fallback(s.file, configVariable)
	s.o.Backend = fallback(s.o.Backend, backendVariable)
	s.o.Socket = fallback(s.o.Socket, socketVariable)
	s.o.Mode = fallback(s.o.Mode, modeVariable)
	s.o.Metrics = fallback(s.o.Metrics, metricsVariable)
	s.o.Traces = fallback(s.o.Traces, tracesVariable)
	s.o.Admin = fallback(s.o.Admin, adminVariable)
	s.o.PolicyFile = fallback(s.o.PolicyFile, policyVariable)
}

// load reads what is in force now. The secrets in it are known from then on.
func (s *settings) load() (*config.Config, error) {
	var f *config.File
	if s.file != "" {
		var err error
		if f, err = config.Load(s.file); err != nil {
			return nil, err
		}
	}
	c, err := f.Compile(s.file, s.o)
	if err != nil {
		return nil, err
	}
	for _, b := range c.Backends {
		secrets.Add(secretsOf(b.URL)...)
	}
	return c, nil
}

// fallback is the variable's value where the flag was not given.
func fallback(value, variable string) string {
	if value == "" {
		return os.Getenv(variable)
	}
	return value
}
