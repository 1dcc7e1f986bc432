package app

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/internal/config"
	"github.com/locksidecar/locksidecar/internal/events/auditlog"
	"github.com/locksidecar/locksidecar/internal/events/webhook"
)

// auditSink is what metrics call the audit log. A webhook is called by its name,
// after the prefix.
const (
	auditSink     = "audit"
	webhookPrefix = "webhook:"
)

// sinkTimeout bounds how long the end of the process waits for the sinks, and
// cutTimeout how long for those that were cut off: a write to a file may hang, and
// nothing ends it.
const (
	sinkTimeout = 3 * time.Second
	cutTimeout  = 500 * time.Millisecond
)

// sinks give the events to whom the configuration names. Only the goroutine that
// reloads, and after it the one that closes, uses it.
type sinks struct {
	d     *daemon
	audit *runningAudit
	hooks []*runningHook
	// last ends what is on its way; working are the sinks that run.
	last    context.Context
	cut     context.CancelFunc
	working *sync.WaitGroup
	// begun: the first sinks were, which get what happened since the process began.
	begun bool
}

// runningAudit is the audit log.
type runningAudit struct {
	*auditlog.Sink
	of   config.Audit
	stop context.CancelFunc
}

// runningHook is one webhook.
type runningHook struct {
	*webhook.Sink
	of config.Webhook
	// stop ends it with its events, drop without them; stopped is closed then.
	stop, drop context.CancelFunc
	stopped    chan struct{}
}

func newSinks(d *daemon) sinks {
	s := sinks{d: d, working: &sync.WaitGroup{}}
	s.last, s.cut = context.WithCancel(context.Background())
	return s
}

// sinkChange is what another configuration makes of the sinks. nil changes
// nothing.
type sinkChange struct {
	s     *sinks
	to    *config.Sinks
	audit *auditlog.Sink
	// fresh are the webhooks that begin.
	fresh map[string]*webhook.Sink
}

// prepare opens what the configuration asks for and there is not. Nothing of what
// runs has changed yet.
func (s *sinks) prepare(to *config.Sinks) (*sinkChange, error) {
	c := &sinkChange{s: s, to: to, fresh: make(map[string]*webhook.Sink)}
	for i := range to.Webhooks {
		w := to.Webhooks[i]
		if slices.ContainsFunc(s.hooks, func(h *runningHook) bool { return h.of == w }) {
			continue
		}
		sink, err := webhook.New(hookOptions(s.d, to, w))
		if err != nil {
			return nil, err
		}
		c.fresh[w.Name] = sink
	}
	if to.Audit.Path == "" || s.audit != nil && s.audit.of.Path == to.Audit.Path {
		return c, nil
	}
	var err error
	c.audit, err = auditlog.Open(auditlog.Options{
		Path: to.Audit.Path, MaxBytes: to.Audit.MaxBytes, Keep: to.Audit.Keep, Sidecar: to.Sidecar, Version: s.d.o.Build.Version,
		Counter: s.d.metrics.Sink(auditSink), Logger: s.d.o.Logger,
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func hookOptions(d *daemon, to *config.Sinks, w config.Webhook) webhook.Options {
	o := webhook.Options{
		Name: w.Name, URL: w.URL, CAFile: w.CAFile, CertFile: w.CertFile, KeyFile: w.KeyFile, TokenFile: w.TokenFile, Timeout: w.Timeout,
		GiveUp: w.GiveUp, Parallel: w.Parallel, Source: w.Source, Sidecar: to.Sidecar,
	}
	if d != nil {
		o.Counter, o.Logger = d.metrics.Sink(webhookPrefix+w.Name), d.o.Logger
	}
	return o
}

// undo closes what was opened.
func (c *sinkChange) undo() {
	if c != nil && c.audit != nil {
		_ = c.audit.Close()
	}
}

// do begins what was opened, and ends what is not asked for any more. A webhook
// that has changed goes on where it was; an audit log in another file begins with
// what happens from now on.
func (c *sinkChange) do() {
	if c == nil {
		return
	}
	s := c.s
	since := uint64(0)
	if s.begun {
		since = s.d.events.Last()
	}
	s.begun = true
	switch {
	case s.audit != nil && s.audit.of.Path == c.to.Audit.Path:
		s.audit.Limit(c.to.Audit.MaxBytes, c.to.Audit.Keep)
		s.audit.of = c.to.Audit
	case s.audit != nil:
		s.audit.stop()
		s.audit = nil
	}
	if c.audit != nil {
		ctx, stop := context.WithCancel(context.Background())
		s.audit = &runningAudit{c.audit, c.to.Audit, stop}
		s.working.Go(func() { c.audit.Run(ctx, s.last, s.d.events, since) })
	}
	was := s.hooks
	s.hooks = nil
	for _, h := range was {
		if slices.Contains(c.to.Webhooks, h.of) {
			s.hooks = append(s.hooks, h)
			continue
		}
		if c.fresh[h.of.Name] != nil {
			h.HandOver()
		}
		h.drop()
		h.stop()
		<-h.stopped
	}
	for name, sink := range c.fresh {
		after := since
		if i := slices.IndexFunc(was, func(h *runningHook) bool { return h.of.Name == name }); i >= 0 {
			after = was[i].Done()
		}
		s.hooks = append(s.hooks, s.run(sink, c.to.Webhooks[slices.IndexFunc(c.to.Webhooks, func(w config.Webhook) bool { return w.Name == name })], after))
	}
}

// run runs a webhook.
func (s *sinks) run(sink *webhook.Sink, of config.Webhook, after uint64) *runningHook {
	h := &runningHook{Sink: sink, of: of, stopped: make(chan struct{})}
	var ctx, last context.Context
	ctx, h.stop = context.WithCancel(context.Background())
	last, h.drop = context.WithCancel(s.last)
	s.working.Go(func() {
		defer close(h.stopped)
		sink.Run(ctx, last, s.d.events, after)
	})
	return h
}

// reopen goes on in a new audit log if the old one was moved away.
func (s *sinks) reopen() {
	if s.audit != nil {
		s.audit.Reopen()
	}
}

// close gives the sinks what happened until now, for a bounded time.
func (s *sinks) close() {
	if s.audit != nil {
		s.audit.stop()
	}
	for _, h := range s.hooks {
		h.stop()
	}
	ended := make(chan struct{})
	go func() { // it ends with the last sink, or with the process
		s.working.Wait()
		close(ended)
	}()
	timer := time.AfterFunc(sinkTimeout, s.cut)
	defer timer.Stop()
	select {
	case <-ended:
		s.cut()
	case <-time.After(sinkTimeout + cutTimeout):
		s.d.o.Logger.Error("a sink of events does not end: the file of the audit log takes no write; what it has not taken is lost")
	}
}

// checkSinks says whether the sinks could begin, without touching the audit log,
// which a daemon may have open.
func checkSinks(to *config.Sinks) (err error) {
	for _, w := range to.Webhooks {
		_, wrong := webhook.New(hookOptions(nil, to, w))
		err = errors.Join(err, wrong)
	}
	return err
}
