// Package service is the injector as a process: the webhook, its certificate, its
// configuration, its metrics, and their life.
//
// It guarantees the order of the end: not ready any more; a pause, in which API
// servers learn of it; the reviews under way are answered; then everything else
// ends.
//
// It does not guarantee to be ready: /readyz says what is missing.
package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/certificates"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/cluster"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/configuration"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/events"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/metrics"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/uninjected"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/webhook"
)

// Options are a process's.
type Options struct {
	Source    *configuration.Source
	Client    *cluster.Client
	Namespace string
	// Instance is the replica's name, in events.
	Instance, Version string
	// Listen and Metrics are addresses.
	Listen, Metrics string
	// Grace is the pause between not being ready and not listening.
	Grace time.Duration
	// Settle is how long a new authority stands in the caBundle before its
	// certificate is served.
	Settle time.Duration
	Logger *slog.Logger
}

// How often what may have changed is looked at.
const (
	lookEvery    = time.Second
	stepEvery    = 5 * time.Second
	versionEvery = 5 * time.Minute
	tellEvery    = time.Minute
	// stopTimeout bounds the answers to the reviews under way.
	stopTimeout = 10 * time.Second
)

// service is one that runs.
type service struct {
	o        Options
	keeper   *certificates.Keeper
	metrics  *metrics.Metrics
	pods     *uninjected.Pods
	recorder *events.Recorder
	stopping atomic.Bool
	platform atomic.Pointer[platform]
}

// platform is what is known of the cluster.
type platform struct {
	problem error
	known   bool
}

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) error {
	s := &service{o: o, pods: uninjected.New()}
	s.platform.Store(&platform{problem: errors.New("nobody has asked it yet")})
	var err error
	if s.keeper, err = keeper(&o); err != nil {
		return err
	}
	reasons := make([]string, len(inject.Reasons))
	for i, r := range inject.Reasons {
		reasons[i] = string(r)
	}
	s.metrics = metrics.New(o.Version, reasons, metrics.Sources{
		Uninjected: s.pods.Counts, Certificate: s.certificate, ConfigCurrent: func() bool { return o.Source.Refused() == nil },
	})
	s.recorder = events.New(events.Options{Sink: o.Client, Instance: o.Instance, Dropped: s.metrics.Dropped, Logger: o.Logger})
	return s.serve(ctx)
}

// keeper is the one of the configuration.
func keeper(o *Options) (*certificates.Keeper, error) {
	c := o.Source.Current().Certificates
	k := certificates.Options{
		Settle:   o.Settle,
		Names:    []string{c.Service, c.Service + "." + o.Namespace, c.Service + "." + o.Namespace + ".svc"},
		Validity: c.Validity, RotateBefore: c.RotateBefore, Logger: o.Logger,
	}
	bundles := cluster.Bundles{Client: o.Client, Name: c.WebhookConfiguration}
	switch {
	case c.Service == "":
		return nil, errors.New("certificates.service is missing: the Service in front of the injector")
	case c.Existing != "":
		k.Store, k.ReadOnly = certificates.Directory(c.Existing), true
		// Others may use fewer names; API servers use this one.
		k.Names = k.Names[2:]
		if c.WebhookConfiguration == "" {
			return certificates.New(k), nil
		}
	case c.Secret == "":
		return nil, errors.New("certificates.secret is missing: the Secret in which the replicas keep the certificates")
	default:
		k.Store = cluster.Secret{Client: o.Client, Name: c.Secret}
	}
	if c.WebhookConfiguration == "" {
		return nil, errors.New("certificates.webhookConfiguration is missing: the MutatingWebhookConfiguration whose caBundle is to be kept")
	}
	k.Bundles = bundles
	return certificates.New(k), nil
}

func (s *service) certificate() (notAfter, rotateAt time.Time, trusted, ok bool) {
	p := s.keeper.Served()
	if p == nil {
		return time.Time{}, time.Time{}, false, false
	}
	return p.NotAfter(), s.keeper.RotateAt(p), s.keeper.Trusted() == nil, true
}

func (s *service) serve(ctx context.Context) error {
	listener, err := net.Listen("tcp", s.o.Listen)
	if err != nil {
		return err
	}
	tell, err := net.Listen("tcp", s.o.Metrics)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var tasks sync.WaitGroup
	for _, task := range []func(context.Context){
		s.recorder.Run, s.followVersion, s.followCertificates, s.followConfiguration,
		func(ctx context.Context) {
			s.o.Client.Pods(ctx, uninjected.Selector, uninjected.Shorten, s.pods.Handler(), s.pods.Synced)
		},
	} {
		tasks.Go(func() { task(background) })
	}
	hook := webhook.New(webhook.Options{
		Settings: func() *inject.Settings { return &s.o.Source.Current().Settings },
		Platform: func() (error, bool) { p := s.platform.Load(); return p.problem, p.known },
		Admitted: s.metrics.Admitted, Event: s.recorder.Record, Logger: s.o.Logger,
	}).Server()
	hook.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.keeper.GetCertificate}
	status := s.status()
	failed := make(chan error, 2)
	tasks.Go(func() { failed <- hook.ServeTLS(listener, "", "") })
	tasks.Go(func() { failed <- status.Serve(tell) })
	s.o.Logger.Info("listening", "address", listener.Addr().String(), "metrics", "http://"+tell.Addr().String()+"/metrics")

	select {
	case err = <-failed:
	case <-ctx.Done():
		s.stopping.Store(true)
		s.o.Logger.Info("stopping", "pause", s.o.Grace)
		select {
		case err = <-failed:
		case <-time.After(s.o.Grace):
		}
	}
	stop, cancel := context.WithTimeout(background, stopTimeout)
	defer cancel()
	err = errors.Join(err, hook.Shutdown(stop), status.Shutdown(stop))
	end()
	tasks.Wait()
	return err
}

// followVersion asks for the cluster's version, until it is known and then now and
// again: clusters are updated.
func (s *service) followVersion(ctx context.Context) {
	for {
		wait := versionEvery
		v, err := s.o.Client.Version(ctx)
		switch {
		case err != nil && s.platform.Load().known:
		case err != nil:
			s.platform.Store(&platform{problem: fmt.Errorf("the API server: %w", err)})
			s.o.Logger.Warn("the version of the cluster is not known", "error", err)
			wait = stepEvery
		default:
			problem := webhook.Supports(v)
			if problem != nil {
				s.o.Logger.Error("this cluster cannot have sidecars", "error", problem)
			}
			s.platform.Store(&platform{problem, true})
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// followCertificates keeps the certificate.
func (s *service) followCertificates(ctx context.Context) {
	var told time.Time
	for {
		// It is told once a minute, not every five seconds.
		if err := s.keeper.Step(ctx); err == nil {
			told = time.Time{}
		} else if now := time.Now(); ctx.Err() == nil && now.Sub(told) >= tellEvery {
			told = now
			s.o.Logger.Error("the certificates are not in order", "error", err)
		}
		if !pause(ctx, stepEvery) {
			return
		}
	}
}

// followConfiguration keeps the configuration.
func (s *service) followConfiguration(ctx context.Context) {
	for pause(ctx, lookEvery) {
		s.o.Source.Look()
	}
}

// pause waits, and says whether to go on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
