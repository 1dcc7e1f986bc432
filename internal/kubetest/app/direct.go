package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// ttl is that of the application's leases: longer than a kubelet's pause before
// it restarts a container.
const ttl = 45 * time.Second

// patience bounds each of the application's calls.
const patience = 60 * time.Second

// app is the application's state.
type app struct {
	t      *test
	c      *client.Client
	leases map[string]*client.Held
	keep   []any // streams that are held until the process ends
}

// direct tells how the first connection went, and does what it is told. SIGTERM is
// told, and not obeyed: the test says when the application ends.
func direct(ctx context.Context, t *test) error {
	first := said{What: "connect", Value: fmt.Sprint(os.Getuid())}
	if err := connect(); err != nil {
		first.Error = err.Error()
	}
	if err := t.say(first); err != nil {
		return err
	}
	c, err := client.Open("")
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = t.say(said{What: "SIGTERM"}) })
	defer stop()
	a := &app{t: t, c: c, leases: make(map[string]*client.Held)}
	for {
		instruction, err := t.next(context.Background())
		if err != nil {
			return err
		}
		if instruction == "exit" {
			return t.say(said{What: "exit"}) // the process's end ends its streams
		}
		s := said{What: instruction}
		if err := a.do(instruction, &s); err != nil {
			s.Error = err.Error()
		}
		if err := t.say(s); err != nil {
			return err
		}
	}
}

// connect is one attempt to reach the sidecar, as the first thing that an
// application does.
func connect() error {
	endpoint, ok := os.LookupEnv(client.EndpointVariable)
	if !ok {
		return errors.New(client.EndpointVariable + " is not set")
	}
	conn, err := net.Dial("unix", strings.TrimPrefix(endpoint, "unix://"))
	if err != nil {
		return err
	}
	return conn.Close()
}

// do does one instruction.
func (a *app) do(instruction string, s *said) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	what, lock, _ := strings.Cut(instruction, " ")
	switch what {
	case "take": // and keep it over the sidecar's restarts
		h, err := client.Take(ctx, a.c, &lockpb.AcquireRequest{LockId: lock, OwnerId: a.t.pod, Ttl: durationpb.New(ttl)}, nil)
		if err != nil {
			return err
		}
		a.leases[lock] = h
		s.lease(h.Lease())
	case "hold": // until the process ends
		return a.hold(lock, s)
	case "lease": // as it is known now
		h := a.leases[lock]
		if h == nil {
			return errors.New("not taken")
		}
		s.lease(h.Lease())
		s.Value = h.Reason()
		if h.Left() <= 0 {
			return errors.New("its time has passed")
		}
	case "until": // when it ends, unless it is renewed
		h := a.leases[lock]
		if h == nil {
			return errors.New("not taken")
		}
		s.Token = int64(h.ValidUntil())
	case "get":
		// A sidecar that is being restarted is waited for.
		l, err := a.c.Get(ctx, &lockpb.GetRequest{LockId: lock}, grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		s.Token = l.GetFencingToken()
		s.Value = fmt.Sprint(len(l.GetHolders()))
	case "release":
		h := a.leases[lock]
		if h == nil {
			return errors.New("not taken")
		}
		delete(a.leases, lock)
		return h.Release(ctx)
	case "write": // to the socket's directory
		return os.WriteFile("/run/locksidecar/written", nil, 0o600)
	default:
		return fmt.Errorf("unknown instruction %q", instruction)
	}
	return nil
}

// lease notes a lease.
func (s *said) lease(l *lockpb.Lease) {
	s.Token, s.Lease = l.GetFencingToken(), l.GetLeaseId()
}

// hold acquires on a stream that nothing keeps but this process.
func (a *app) hold(lock string, s *said) error {
	stream, err := a.c.Hold(context.Background())
	if err != nil {
		return err
	}
	a.keep = append(a.keep, stream)
	acquire := &lockpb.AcquireRequest{LockId: lock, OwnerId: a.t.pod, Ttl: durationpb.New(ttl)}
	if err := stream.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: acquire}}); err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if l := r.GetGranted(); l != nil {
			s.lease(l)
			return nil
		}
		if e := r.GetError(); e != nil {
			return errors.New(e.GetMessage())
		}
	}
}
