package main

import (
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/internal/logging"
)

// secrets are those of the backends that this process was told of: no line of its
// log has them, nor the error with which it ends.
var secrets logging.Secrets

// logFlags are about the log of a daemon. It returns what makes the logger once
// the flags are known.
func logFlags(c *cobra.Command, format string) (open func() (*slog.Logger, error)) {
	var o logging.Options
	c.Flags().StringVar(&o.Level, "log-level", "", "debug, info, warn or error (default $LOCKSIDECAR_LOG_LEVEL, then info)")
	c.Flags().StringVar(&o.Format, "log-format", format, "json or text (without: json, but text on a terminal)")
	return func() (*slog.Logger, error) {
		o.Level = fallback(o.Level, "LOCKSIDECAR_LOG_LEVEL")
		o.Secrets = &secrets
		l, err := logging.New(c.ErrOrStderr(), o)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		logging.Libraries(l)
		return l, nil
	}
}

// directLog is the log of a command that goes to a backend itself.
func directLog(errs io.Writer, level, backend string) (*slog.Logger, error) {
	secrets.Add(secretsOf(backend)...)
	l, err := logging.New(errs, logging.Options{Level: level, Format: "text", Secrets: &secrets})
	if err != nil {
		return nil, err
	}
	logging.Libraries(l)
	return l, nil
}

// shortest is the shortest secret that is looked for in the log: less would
// hide half of every line.
const shortest = 4

// secretsOf are the secrets of a backend's URL: its password, and those in the
// files that it names.
func secretsOf(backend string) (secrets []string) {
	u, err := url.Parse(backend)
	if err != nil {
		return nil // it will not be used
	}
	add := func(s string) {
		if len(s) >= shortest {
			secrets = append(secrets, s)
		}
	}
	password, _ := u.User.Password()
	add(password)
	for name, values := range u.Query() {
		for _, v := range values {
			if raw, err := os.ReadFile(v); strings.HasSuffix(name, "password_file") && err == nil {
				add(strings.TrimSpace(string(raw)))
			}
		}
	}
	return secrets
}
