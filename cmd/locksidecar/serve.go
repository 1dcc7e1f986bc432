package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/app"
	"github.com/locksidecar/locksidecar/internal/client"
	"github.com/locksidecar/locksidecar/internal/config"
	"github.com/locksidecar/locksidecar/internal/logging"
	"github.com/locksidecar/locksidecar/internal/sdnotify"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// version and revision are set by the linker for a release. Without the second one,
// what the build noted of the repository counts.
var version, revision = "dev", ""

func build() app.Build {
	b := app.Build{Version: version, Revision: revision, GoVersion: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok && revision == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	return b
}

// collectLate lets the heap of a daemon grow to five times of what is in use before
// garbage is collected, unless GOGC says otherwise. Little is in use, much of it for
// the length of a call: an operation then costs about a tenth less of the daemon's
// time (internal/bench, with GOGC=100 and without), for some 20 MB.
func collectLate() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

func newServe() *cobra.Command {
	from := &settings{}
	c := &cobra.Command{
		Use: "serve", Short: "Serve locks of backends on a Unix socket", Args: exactly(),
		Long: "Serve locks of backends on a Unix socket, until SIGTERM or SIGINT.\n\n" +
			"Flags win over the environment (" + configVariable + ", " + backendVariable + ", " + socketVariable + ",\n" +
			modeVariable + ", " + metricsVariable + ", " + tracesVariable + ", " + adminVariable + ", " + policyVariable + ", LOCKSIDECAR_LOG_LEVEL),\n" +
			"which wins over the file. The file is read again on SIGHUP and when it changes.",
		Example: "  locksidecar serve --backend redis://127.0.0.1:6379\n" +
			"  locksidecar serve --backend embedded:///var/lib/locksidecar/locks.db\n  locksidecar serve --config /etc/locksidecar/config.yaml",
	}
	from.configFlag(c)
	from.flags(c)
	openLog := logFlags(c, "")
	c.RunE = func(c *cobra.Command, _ []string) error {
		from.environment()
		o := app.Options{Build: build()}
		var err error
		switch o.Config, err = from.load(); {
		case errors.Is(err, config.ErrNoBackend):
			return usage("no backend configured: use --backend, %s or --config; to try it: locksidecar dev", backendVariable)
		case err != nil:
			return &exitError{exitUsage, err}
		}
		if o.Logger, err = openLog(); err != nil {
			return err
		}
		if o.Notifier, err = sdnotify.FromEnvironment(); err != nil {
			return &exitError{exitUsage, err}
		}
		if len(o.Config.Files) > 0 {
			o.Reload = from.load
		}
		var stop func()
		o.Hangups, stop = hangups()
		defer stop()
		o.Listening = func() { o.Logger.Info("listening", driver.LogAddress, o.Config.Socket) }
		collectLate()
		return app.Run(c.Context(), o)
	}
	return c
}

// hangups passes SIGHUP on. Without a configuration file it is ignored, so that
// a terminal that closes ends nothing.
func hangups() (<-chan struct{}, func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	passed, done := make(chan struct{}), make(chan struct{})
	go func() {
		for {
			select {
			case <-signals:
			case <-done:
				return
			}
			select {
			case passed <- struct{}{}:
			case <-done:
				return
			}
		}
	}()
	return passed, func() {
		signal.Stop(signals)
		close(done)
	}
}

func newDev() *cobra.Command {
	from := &settings{o: config.Overrides{Backend: "embedded:"}}
	c := &cobra.Command{
		Use: "dev", Short: "Try it: serve locks from memory, with nothing installed", Args: exactly(),
	}
	c.Flags().StringVar(&from.o.Socket, "socket", "", "path of the socket (default "+client.DevPath()+")")
	c.Flags().StringVar(&from.o.Metrics, "metrics", "", "address of /metrics, /healthz and /readyz (default none)")
	var address string
	c.Flags().StringVar(&address, "admin", "", "address of the page for operators (default "+config.DefaultAdmin+", if it is free)")
	openLog := logFlags(c, logging.Text)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if from.o.Socket = fallback(from.o.Socket, socketVariable); from.o.Socket == "" {
			from.o.Socket = client.DevPath()
		}
		from.o.Metrics = fallback(from.o.Metrics, metricsVariable)
		o := app.Options{Build: build()}
		var err error
		if o.Config, err = from.load(); err != nil {
			return err
		}
		if o.Logger, err = openLog(); err != nil {
			return err
		}
		if o.Config.Admin, err = config.DevAdmin(fallback(address, adminVariable), backend.NewSecret()); err != nil {
			return &exitError{exitUsage, err}
		}
		o.Operators = func(url string) {
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "The locks in a browser: %s#token=%s\n\n", url, o.Config.Admin.Token)
		}
		o.Listening = func() {
			// Standard output is the line alone, for whoever pastes by a program.
			_, _ = fmt.Fprint(c.ErrOrStderr(), "Locks are in memory and end with this process. Paste this to acquire one:\n\n")
			_, _ = fmt.Fprintf(c.OutOrStdout(), "curl -sS --unix-socket '%s' http://localhost/locks/demo:acquire -d '{\"ttl\":\"60s\"}'\n", o.Config.Socket)
		}
		collectLate()
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
