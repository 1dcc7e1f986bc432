package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/configuration"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/offline"
)

// maxManifest bounds what is read, in bytes.
const maxManifest = 64 << 20

func newInject() *cobra.Command {
	var file, config string
	c := &cobra.Command{
		Use: "inject -f FILE --config FILE", Short: "Inject into manifests, as the webhook would, and print them", Args: nothing,
		Long: "Inject into manifests, as the webhook would, and print them. Pods, and the templates of Deployments, StatefulSets,\n" +
			"DaemonSets, ReplicaSets, Jobs and CronJobs, also in lists, that have the label " + inject.Label + ": \"true\";\n" +
			"all else is printed as it is. It exits with 1 if a pod is refused.",
		Example: "  locksidecar-injector inject -f deployment.yaml --config injector.yaml | kubectl apply -f -",
	}
	c.Flags().StringVarP(&file, "filename", "f", "", "the manifests, in YAML or JSON; - is standard input")
	c.Flags().StringVar(&config, "config", "", "the injector's configuration, injector.yaml")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if file == "" {
			return usage("--filename is missing: the manifests, - for standard input")
		}
		if config == "" {
			return usage("--config is missing: the injector's configuration, injector.yaml")
		}
		loaded, err := configuration.Load(config, version)
		if err != nil {
			return &exitError{exitUsage, err}
		}
		raw, err := manifest(c.InOrStdin(), file)
		if err != nil {
			return &exitError{exitUsage, err}
		}
		in := &offline.Injector{Settings: &loaded.Settings, Tell: func(message string) {
			_, _ = fmt.Fprintln(c.ErrOrStderr(), "locksidecar-injector: "+message)
		}}
		out, err := in.Documents(raw)
		if refusal := (*inject.Refusal)(nil); errors.As(err, &refusal) {
			return &exitError{exitRefused, err}
		}
		if err != nil {
			return usage("%s: %w", file, err)
		}
		_, err = c.OutOrStdout().Write(out)
		return err
	}
	return c
}

func manifest(in io.Reader, file string) ([]byte, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxManifest+1))
	if err == nil && len(raw) > maxManifest {
		err = fmt.Errorf("%s has more than %d bytes", file, maxManifest)
	}
	return raw, err
}
