package main

import (
	"os"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/certificates"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/cluster"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/configuration"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/service"
	"github.com/locksidecar/locksidecar/internal/logging"
)

// The variables that a pod's manifest sets.
const (
	namespaceVariable = "POD_NAMESPACE"
	nameVariable      = "POD_NAME"
)

// grace is how long API servers may need to learn that a replica is leaving.
const grace = 5 * time.Second

func newServe() *cobra.Command {
	var config, kubeconfig, level, format string
	o := service.Options{Version: version, Instance: os.Getenv(nameVariable)}
	c := &cobra.Command{
		Use: "serve", Short: "Serve the admission webhook, until SIGTERM or SIGINT", Args: nothing,
		Example: "  locksidecar-injector serve --config /etc/locksidecar-injector/injector.yaml",
	}
	f := c.Flags()
	f.StringVar(&config, "config", "", "the injector's configuration; read again when it changes")
	f.StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server (default: as a pod)")
	f.StringVar(&o.Namespace, "namespace", os.Getenv(namespaceVariable), "the injector's own namespace (default $"+namespaceVariable+")")
	f.StringVar(&o.Listen, "listen", ":9443", "address of the webhook")
	f.StringVar(&o.Metrics, "metrics", ":9719", "address of /metrics, /healthz and /readyz")
	f.DurationVar(&o.Grace, "grace", grace, "how long it serves on after a signal, while it is not ready any more")
	f.DurationVar(&o.Settle, "settle", certificates.DefaultSettle, "how long API servers may need to learn of a new authority, before its certificate is served")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&format, "log-format", "", "json or text (without: json, but text on a terminal)")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		if config == "" {
			return usage("--config is missing: the injector's configuration, injector.yaml")
		}
		if o.Namespace == "" {
			return usage("--namespace is missing: the injector's own namespace, or $%s", namespaceVariable)
		}
		if o.Logger, err = logging.New(c.ErrOrStderr(), logging.Options{Level: level, Format: format}); err != nil {
			return &exitError{exitUsage, err}
		}
		klog.SetSlogLogger(o.Logger)
		if o.Source, err = configuration.Open(config, version, o.Logger); err != nil {
			return &exitError{exitUsage, err}
		}
		rest, err := cluster.Configured(kubeconfig)
		if err != nil {
			return usage("how to reach the API server: %w", err)
		}
		if o.Client, err = cluster.New(rest, o.Namespace); err != nil {
			return &exitError{exitUsage, err}
		}
		return service.Run(c.Context(), o)
	}
	return c
}
