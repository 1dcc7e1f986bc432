package service

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// status returns a server of /metrics, /healthz (the process lives) and /readyz,
// which says of each condition how it is.
func (s *service) status() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		text, ready := s.ready()
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(text))
	})
	return &http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
	}
}

// ready says whether reviews can be answered. A configuration that was refused is
// told, and takes no replica away: the one before it is in force.
func (s *service) ready() (text string, ready bool) {
	var b strings.Builder
	ready = true
	for _, c := range []struct {
		name string
		err  error
		need bool
	}{
		{"process", s.ending(), true},
		{"certificate", s.keeper.Trusted(), true},
		{"cluster", s.platform.Load().problem, true},
		{"configuration", s.o.Source.Refused(), false},
	} {
		how := "ok"
		if c.err != nil {
			how = strings.ReplaceAll(c.err.Error(), "\n", "; ")
			if !c.need {
				how = "refused, the one before is in force: " + how
			}
			ready = ready && !c.need
		}
		fmt.Fprintf(&b, "%s: %s\n", c.name, how)
	}
	return b.String(), ready
}

func (s *service) ending() error {
	if s.stopping.Load() {
		return errors.New("it is stopping")
	}
	return nil
}
