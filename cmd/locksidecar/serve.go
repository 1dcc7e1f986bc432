package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/app"
	"github.com/locksidecar/locksidecar/internal/client"
	"github.com/locksidecar/locksidecar/internal/logging"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
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
		Use: "serve", Short: "Serve locks of a backend on a Unix socket", Args: exactly(),
		Long: "Serve locks of a backend on a Unix socket, until SIGTERM or SIGINT.\n\n" +
			"Flags win over the environment: LOCKSIDECAR_BACKEND, LOCKSIDECAR_SOCKET, LOCKSIDECAR_METRICS,\n" +
			"LOCKSIDECAR_POLICY, LOCKSIDECAR_LOG_LEVEL.",
		Example: "  locksidecar serve --backend redis://127.0.0.1:6379",
	}
	f := c.Flags()
	f.StringVar(&o.Backend, "backend", "", "backend URL: redis://host:port, rediss://, redis+unix:///path or embedded:")
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
		Use: "dev", Short: "Try it: serve locks from memory, with nothing installed", Args: exactly(),
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
			// Standard output is the line alone, for whoever pastes by a program.
			_, _ = fmt.Fprint(c.ErrOrStderr(), "Locks are in memory and end with this process. Paste this to acquire one:\n\n")
			_, _ = fmt.Fprintf(c.OutOrStdout(), "curl -sS --unix-socket '%s' http://localhost/locks/demo:acquire -d '{\"ttl\":\"60s\"}'\n", o.Socket)
		}
		return app.Run(c.Context(), o)
	}
	return c
}

func newVersion() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "version", Short: "Print the version", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := validOutput(output); err != nil {
				return err
			}
			b := build()
			if output == "json" {
				return printJSON(c.OutOrStdout(), &lockpb.Build{Version: b.Version, Revision: b.Revision, GoVersion: b.GoVersion})
			}
			line := strings.Join(strings.Fields("locksidecar "+b.Version+" "+b.Revision+" "+b.GoVersion), " ")
			_, err := fmt.Fprintln(c.OutOrStdout(), line)
			return err
		},
	}
	printsAs(c, &output)
	return c
}
