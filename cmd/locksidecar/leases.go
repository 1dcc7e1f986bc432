package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// seconds is a duration flag in which a bare number is seconds, as in flock(1).
type seconds struct {
	d   time.Duration
	set bool
}

func (s *seconds) String() string {
	if !s.set {
		return ""
	}
	return s.d.String()
}

func (s *seconds) Type() string { return "duration" }

func (s *seconds) Set(v string) error {
	d, err := time.ParseDuration(v)
	if n, notNumber := strconv.ParseFloat(v, 64); notNumber == nil {
		// Also no NaN, and nothing that a duration cannot hold.
		if !(n >= 0 && n < math.MaxInt64/float64(time.Second)) {
			err = strconv.ErrRange
		} else {
			d, err = time.Duration(n*float64(time.Second)), nil
		}
	}
	if err != nil || d < 0 {
		return errors.New("want a duration such as 10s, or a number of seconds, from 0 on")
	}
	s.d, s.set = d, true
	return nil
}

func (s *seconds) proto() *durationpb.Duration {
	if !s.set {
		return nil
	}
	return durationpb.New(s.d)
}

// acquireFlags are those of acquire and lock.
type acquireFlags struct {
	ttl, wait seconds
	try       bool
	req       lockpb.AcquireRequest
}

func (a *acquireFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.Var(&a.ttl, "ttl", "how long the lease lasts unless renewed, 1s to 60s; bare numbers are seconds (default 15s)")
	f.VarP(&a.wait, "wait", "w", "how long to wait; bare numbers are seconds (default: until granted)")
	f.BoolVarP(&a.try, "nonblock", "n", false, "do not wait")
	f.BoolVarP(&a.req.Shared, "shared", "s", false, "shared mode instead of exclusive")
	f.StringVar(&a.req.OwnerId, "owner", "", "who asks (default: made up)")
	f.Uint32Var(&a.req.Priority, "priority", 0, "0 to 9: a head start of 8 places a level")
	f.StringToStringVar(&a.req.Metadata, "metadata", nil, "key=value, shown to whoever inspects the lock")
}

func (a *acquireFlags) request(lock string) (*lockpb.AcquireRequest, error) {
	if a.try && a.wait.set {
		return nil, usage("--nonblock and --wait: want one of them")
	}
	a.req.LockId, a.req.Ttl, a.req.Wait = lock, a.ttl.proto(), a.wait.proto()
	if a.try {
		a.req.Wait = durationpb.New(0)
	}
	return &a.req, nil
}

func newAcquire(g *global) *cobra.Command {
	var a acquireFlags
	c := &cobra.Command{
		Use: "acquire LOCK", Short: "Acquire a lease that you renew yourself", Args: exactly("LOCK"),
		Example: "  locksidecar acquire orders/42 --ttl 30s --wait 5",
	}
	a.register(c)
	c.Flags().StringVar(&a.req.RequestId, "request-id", "", "repeat an acquire whose answer was lost under its id")
	c.Flags().Int64Var(&a.req.TokenFloor, "token-floor", 0, "the new lease's token is at least this")
	return g.connected(g.completes(c), func(c *cobra.Command, cl *client.Client, args []string) error {
		req, err := a.request(args[0])
		if err != nil {
			return err
		}
		var l *lockpb.Lease
		err = client.Persist(c.Context(), req, func(ctx context.Context, req *lockpb.AcquireRequest) (bool, error) {
			var err error
			l, err = cl.Acquire(ctx, req)
			return false, err
		})
		if err != nil {
			return err
		}
		if g.output == "json" {
			return printJSON(c.OutOrStdout(), l)
		}
		return printLease(c.OutOrStdout(), l)
	})
}

// proof is how renew and release prove a lease.
type proof struct {
	leaseID string
	token   int64
}

func (p *proof) register(c *cobra.Command) {
	c.Flags().StringVar(&p.leaseID, "lease-id", "", "the lease's secret; - reads it from standard input, so that no process list shows it")
	c.Flags().Int64Var(&p.token, "token", 0, "the lease's fencing token")
}

func (p *proof) read(c *cobra.Command) error {
	if p.leaseID == "-" {
		line, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
		if p.leaseID = strings.TrimSpace(line); p.leaseID == "" {
			return usage("--lease-id -: want the lease_id in the first line of standard input: %w", err)
		}
	}
	return nil
}

func newRenew(g *global) *cobra.Command {
	var p proof
	var ttl seconds
	c := &cobra.Command{Use: "renew LOCK", Short: "Prolong a lease", Args: exactly("LOCK")}
	p.register(c)
	c.Flags().Var(&ttl, "ttl", "how long it lasts from now on; bare numbers are seconds (default 15s)")
	return g.connected(g.completes(c), func(c *cobra.Command, cl *client.Client, args []string) error {
		if err := required(c, "lease-id", "token"); err != nil {
			return err
		}
		if err := p.read(c); err != nil {
			return err
		}
		ctx, cancel := client.Deadline(c.Context())
		defer cancel()
		l, err := cl.Renew(ctx, &lockpb.RenewRequest{LockId: args[0], LeaseId: p.leaseID, FencingToken: p.token, Ttl: ttl.proto()})
		if err != nil {
			return err
		}
		if g.output == "json" {
			return printJSON(c.OutOrStdout(), l)
		}
		return printLease(c.OutOrStdout(), l)
	})
}

func newRelease(g *global) *cobra.Command {
	var p proof
	var requestID string
	c := &cobra.Command{Use: "release LOCK", Short: "Release a hold of a lease", Args: exactly("LOCK")}
	p.register(c)
	c.Flags().StringVar(&requestID, "request-id", "", "the hold's; alone it undoes an acquire whose answer was lost")
	return g.connected(g.completes(c), func(c *cobra.Command, cl *client.Client, args []string) error {
		if requestID == "" || p.leaseID != "" || p.token != 0 {
			if err := required(c, "lease-id", "token"); err != nil {
				return err
			}
		}
		if err := p.read(c); err != nil {
			return err
		}
		ctx, cancel := client.Deadline(c.Context())
		defer cancel()
		r, err := cl.Release(ctx, &lockpb.ReleaseRequest{LockId: args[0], LeaseId: p.leaseID, FencingToken: p.token, RequestId: requestID})
		if err != nil {
			return err
		}
		if g.output == "json" {
			return printJSON(c.OutOrStdout(), r)
		}
		said := fmt.Sprintf("released %s, %d holds left", r.GetLockId(), r.GetHoldCount())
		if p.leaseID == "" {
			said = "undone: nothing is left of that acquire of " + r.GetLockId()
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), said)
		return err
	})
}
