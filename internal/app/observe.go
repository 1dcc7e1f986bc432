package app

import (
	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/internal/events"
	"github.com/locksidecar/locksidecar/internal/metrics"
	"github.com/locksidecar/locksidecar/renew"
	"github.com/locksidecar/locksidecar/socket"
)

// observer tells the metrics and the events what store and keeper do.
type observer struct {
	*metrics.Backend
	events events.Teller
}

var (
	_ backend.Observer = observer{}
	_ renew.Observer   = observer{}
)

// Happened tells both.
func (o observer) Happened(e backend.Event) {
	o.Backend.Happened(e)
	o.events.Happened(e)
}

// Lost tells both.
func (o observer) Lost(l renew.LostObservation) {
	o.Backend.Lost(l)
	o.events.Lost(l)
}

// described is what the metrics know of the process.
func described(o Options) metrics.Options {
	m := metrics.Options{Version: o.Build.Version, Revision: o.Build.Revision, GoVersion: o.Build.GoVersion}
	for _, c := range o.Config.Classes {
		m.Classes = append(m.Classes, metrics.Class{Match: c.Match, Name: c.Name})
	}
	return m
}

// watched is the log as the socket needs it.
type watched struct{ log *events.Log }

func (w watched) Subscribe(prefix, after string) (socket.Subscription, error) {
	s, err := w.log.Subscribe(prefix, after)
	if err != nil {
		return nil, err
	}
	return s, nil
}
