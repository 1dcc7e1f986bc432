package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/internal/events/webhook"
)

// Sinks are where events go beside those who watch.
type Sinks struct {
	// Sidecar is this sidecar's name in them.
	Sidecar string
	Audit   Audit
	// Webhooks are in the order of their names.
	Webhooks []Webhook
}

// Audit is the audit log; without a path there is none. Numbers of 0 mean the
// defaults.
type Audit struct {
	Path     string
	MaxBytes int64
	Keep     int
}

// Webhook is a consumer of events. What is 0 means the default.
type Webhook struct {
	Name, URL, CAFile, CertFile, KeyFile, TokenFile, Source string

	Timeout, GiveUp time.Duration
	Parallel        int
}

// maxParallel bounds the events of one webhook that are on their way.
const maxParallel = 256

func (f *File) sinks(c *Config) error {
	s, a := &c.Sinks, &f.Events.Audit
	if s.Sidecar = f.Events.Sidecar; s.Sidecar == "" {
		s.Sidecar, _ = os.Hostname() // without a name it is told by its run
	}
	s.Audit = Audit{a.Path, int64(a.MaxBytes), a.Keep}
	if a.Path == "" && (a.MaxBytes != 0 || a.Keep != 0) {
		return errors.New("events.audit: the path is missing")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Events.Webhooks)) {
		w := f.Events.Webhooks[name]
		err := webhook.CheckURL(w.URL, w.TokenFile != "")
		switch {
		case err != nil:
		case (w.CertFile == "") != (w.KeyFile == ""):
			err = errors.New("cert_file and key_file go together")
		case w.Parallel > maxParallel:
			err = fmt.Errorf("parallel: want at most %d", maxParallel)
		}
		if err != nil {
			return fmt.Errorf("line %d: the webhook %q: %w", w.Line, name, err)
		}
		s.Webhooks = append(s.Webhooks, Webhook{
			name, w.URL, w.CAFile, w.CertFile, w.KeyFile, w.TokenFile, w.Source, time.Duration(w.Timeout), time.Duration(w.GiveUp), w.Parallel,
		})
	}
	return nil
}
