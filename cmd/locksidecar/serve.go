package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/app"
	"github.com/locksidecar/locksidecar/internal/client"
	"github.com/locksidecar/locksidecar/internal/logging"
)

// version is set by the linker for a release.
var version = "dev"

func build() app.Build {
	b := app.Build{Version: version, GoVersion: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	return b
}

// fallback is the variable's value where the flag was not given.
func fallback(value, variable string) string {
	if value == "" {
		return os.Getenv(variable)
	}
	return value
}

func newServe() *cobra.Command {
	o := app.Options{Mode: 0o660}
	c := &cobra.Command{
		Use: "serve", Short: "Serve locks of a backend on a Unix socket", Args: cobra.NoArgs,
		Long: "Serve locks of a backend on a Unix socket, until SIGTERM or SIGINT.\n\n" +
			"Flags win over the environment: LOCKSIDECAR_BACKEND, LOCKSIDECAR_SOCKET, LOCKSIDECAR_METRICS,\n" +
			"LOCKSIDECAR_POLICY, LOCKSIDECAR_LOG_LEVEL.",
		Example: "  locksidecar serve --backend redis://127.0.0.1:6379\n" +
			"  locksidecar serve --backend embedded:///var/lib/locksidecar/locks.db",
	}
	f := c.Flags()
	f.StringVar(&o.Backend, "backend", "", "backend URL: redis://host:port, rediss://, redis+unix:///path, embedded:///path (a file) or embedded: (memory)")
	f.StringVar(&o.Socket, "socket", "", "path of the socket (default "+client.ServePath+")")
	f.StringVar(&o.Metrics, "metrics", "", "address of /metrics, /healthz and /readyz, such as :9718 (default none)")
	loadAccess := accessFlags(c, &o)
	openLog := logFlags(c, "")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o.Backend = fallback(o.Backend, "LOCKSIDECAR_BACKEND")
		o.Metrics = fallback(o.Metrics, "LOCKSIDECAR_METRICS")
		if o.Socket = fallback(o.Socket, "LOCKSIDECAR_SOCKET"); o.Socket == "" {
			o.Socket = client.ServePath
		}
		if o.Backend == "" {
			return usage("no backend configured: use --backend or LOCKSIDECAR_BACKEND; to try it: locksidecar dev")
		}
		if err := loadAccess(); err != nil {
			return err
		}
		var err error
		if o.Logger, err = openLog(o.Backend); err != nil {
			return err
		}
		o.Build = build()
		o.Listening = func() { o.Logger.Info("listening", driver.LogAddress, o.Socket) }
		return app.Run(c.Context(), o)
	}
	return c
}

func newDev() *cobra.Command {
	o := app.Options{Backend: "embedded:", Mode: 0o660}
	c := &cobra.Command{
		Use: "dev", Short: "Try it: serve locks from memory, with nothing installed", Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&o.Socket, "socket", "", "path of the socket (default "+client.DevPath()+")")
	c.Flags().StringVar(&o.Metrics, "metrics", "", "address of /metrics, /healthz and /readyz (default none)")
	openLog := logFlags(c, logging.Text)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if o.Socket = fallback(o.Socket, "LOCKSIDECAR_SOCKET"); o.Socket == "" {
			o.Socket = client.DevPath()
		}
		o.Metrics = fallback(o.Metrics, "LOCKSIDECAR_METRICS")
		var err error
		if o.Logger, err = openLog(o.Backend); err != nil {
			return err
		}
		o.Build = build()
		o.Listening = func() {
			_, _ = fmt.Fprintf(c.OutOrStdout(), "Locks are in memory and end with this process. Paste this to acquire one:\n\n"+
				"  curl -sS --unix-socket '%s' http://localhost/locks/demo:acquire -d '{\"ttl\":\"60s\"}'\n\n", o.Socket)
		}
		return app.Run(c.Context(), o)
	}
	return c
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			b := build()
			_, err := fmt.Fprintf(c.OutOrStdout(), "locksidecar %s %s %s\n", b.Version, b.Revision, b.GoVersion)
			return err
		},
	}
}
