package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/internal/app"
	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// The environment of the child.
const (
	childLockID = "LOCKSIDECAR_LOCK_ID"
	childToken  = "LOCKSIDECAR_FENCING_TOKEN" //nolint:gosec // a variable's name
)

// locker runs commands under a lock.
type locker struct {
	g       *global
	a       acquireFlags
	backend string
	refused int
}

func newLock(g *global) *cobra.Command {
	l := &locker{g: g}
	c := &cobra.Command{
		Use: "lock LOCK -- COMMAND [ARG…]", Short: "Run a command while holding a lock, like flock(1) over a fleet",
		Long: "Run a command while holding a lock. The command runs without a shell in a process group of its own, with\n" +
			childLockID + " and " + childToken + " in its environment; signals are passed on to the group.\n" +
			"When the lease is lost, the command and everything that it started get SIGTERM, and SIGKILL before the lease's\n" +
			"time is over. The lock is released when nothing of it is left.\n\n" +
			"Exits with the command's own code, 128+n if signal n ended it, 1 (or -E) if the lock was not acquired, 75 if\n" +
			"the lease was lost, 126 or 127 if the command cannot be run.",
		Example: "  locksidecar lock nightly-report -- ./report.sh\n" +
			"  locksidecar lock -n -E 0 cleanup -- ./cleanup.sh\n" +
			"  locksidecar lock --backend redis://redis:6379 backup -- ./backup.sh",
		Args: lockArgs, DisableFlagsInUseLine: true,
	}
	l.a.register(c)
	f := c.Flags()
	f.IntVarP(&l.refused, "conflict-exit-code", "E", exitNo, "exit code if the lock was not acquired, 0 to 255")
	f.StringVar(&l.backend, "backend", "", "do without a daemon: the URL of the backend, such as redis://host:6379")
	g.connects(c)
	c.RunE = l.run
	return g.completes(c)
}

func lockArgs(c *cobra.Command, args []string) error {
	dash := c.ArgsLenAtDash()
	switch {
	case len(args) == 0 || dash == 0:
		return usage("LOCK is missing; want: locksidecar %s", c.Use)
	case dash < 0 && len(args) > 1:
		return usage("-- is missing before the command %q; want: locksidecar %s", args[1], c.Use)
	case dash > 1:
		return usage("%q is one argument too many before --; want: locksidecar %s", args[1], c.Use)
	case len(args) == 1:
		return usage("COMMAND is missing; want: locksidecar %s", c.Use)
	}
	return nil
}

func (l *locker) run(c *cobra.Command, args []string) error {
	if l.refused < 0 || l.refused > 255 {
		return usage("--conflict-exit-code %d: want 0 to 255", l.refused)
	}
	if l.backend != "" && l.g.endpoint != "" {
		return usage("--backend and --endpoint: want one of them, a backend without a daemon or a daemon's socket")
	}
	req, err := l.a.request(args[0])
	if err != nil {
		return err
	}
	cmd, err := find(args[1:])
	if err != nil {
		return err
	}
	source, err := l.source(c.Context(), c.ErrOrStderr())
	if err != nil {
		return err
	}
	// From here on signals are for the command; while it waits for the lock,
	// those that ask for an end end the wait.
	signals := make(chan os.Signal, 32)
	notify(signals, forwarded...)
	defer signal.Stop(signals)

	held, err := l.wait(source, req, signals, c.ErrOrStderr())
	if err == nil {
		err = supervise(held, cmd, signals, c.ErrOrStderr())
	}
	if errors.Is(err, errStuck) {
		// Whatever is closed now would release the lock.
		return err
	}
	if closing := source.close(); closing != nil {
		_, _ = fmt.Fprintf(c.ErrOrStderr(), "locksidecar: closing the connection: %v\n", closing) // what matters was done
	}
	return err
}

// wait acquires the lock.
func (l *locker) wait(source source, req *lockpb.AcquireRequest, signals chan os.Signal, errs io.Writer) (tenancy, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	early := untilEnd(ctx, signals, cancel)
	n := newNotice(source, req.GetLockId(), errs, l.g.output)
	held, err := source.take(ctx, req, n.queued)
	n.done()
	cancel(nil)
	kept := <-early
	if err == nil {
		for _, s := range kept {
			signals <- s // they came with the grant: they are for the command
		}
		return held, nil
	}
	if ended := interrupted(ctx); ended != nil {
		return nil, ended
	}
	if codeOf(err) == exitNo {
		return nil, &exitError{l.refused, err}
	}
	return nil, err
}

// untilEnd cancels with the first signal that asks for an end, until ctx ends.
// The others are kept and handed out then.
func untilEnd(ctx context.Context, signals <-chan os.Signal, cancel context.CancelCauseFunc) <-chan []os.Signal {
	kept := make(chan []os.Signal, 1)
	go func() {
		var others []os.Signal
		defer func() { kept <- others }()
		for {
			select {
			case s := <-signals:
				switch s {
				case syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM:
					others = append(others, s)
					cancel(&signalled{s})
					return
				case syscall.SIGCONT, syscall.SIGWINCH:
				default:
					if len(others) < cap(signals)/2 {
						others = append(others, s)
					}
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return kept
}

// forwarded are the signals that are passed on: all that can be caught, but
// those that a process gets for what it did itself (SIGSEGV, SIGPIPE, …), that
// the Go runtime uses (SIGURG, SIGPROF), or that are about children and the
// terminal's background.
var forwarded = func() []os.Signal {
	all := []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM,
		syscall.SIGTERM, syscall.SIGSTKFLT, syscall.SIGCONT, syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGVTALRM,
		syscall.SIGWINCH, syscall.SIGIO, syscall.SIGPWR,
	}
	for n := syscall.Signal(35); n <= 64; n++ { // real-time; 32 to 34 are libc's
		all = append(all, n)
	}
	return all
}()

// notify is signal.Notify for those signals that were not ignored when this
// process started: nohup's child stays deaf to SIGHUP, and its own child too.
func notify(c chan<- os.Signal, signals ...os.Signal) {
	for _, s := range signals {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
}

// source is where the lease comes from.
type source interface {
	take(ctx context.Context, req *lockpb.AcquireRequest, queued func(*lockpb.Queued)) (tenancy, error)
	// get shows the lock, for the one who waits.
	get(ctx context.Context, lockID string) (*lockpb.Lock, error)
	// name says what is waited for when nobody answers.
	name() string
	close() error
}

func (l *locker) source(ctx context.Context, errs io.Writer) (source, error) {
	if l.backend == "" {
		cl, err := l.g.dial()
		return &sidecar{cl: cl}, err
	}
	if err := validOutput(l.g.output); err != nil {
		return nil, err
	}
	log, err := directLog(errs, "warn", l.backend)
	if err != nil {
		return nil, err
	}
	local, err := app.OpenLocal(ctx, l.backend, log)
	return &direct{local}, err
}

// sidecar is a daemon at a socket.
type sidecar struct {
	cl   *client.Client
	held *client.Held
}

func (s *sidecar) take(ctx context.Context, req *lockpb.AcquireRequest, queued func(*lockpb.Queued)) (tenancy, error) {
	var err error
	s.held, err = client.Take(ctx, s.cl, req, queued)
	return s.held, err
}

func (s *sidecar) get(ctx context.Context, lockID string) (*lockpb.Lock, error) {
	return s.cl.Get(ctx, &lockpb.GetRequest{LockId: lockID})
}

func (s *sidecar) name() string { return "the daemon at " + s.cl.Endpoint() }

func (s *sidecar) close() error {
	if s.held != nil {
		s.held.Close()
	}
	return s.cl.Close()
}

// direct is a backend without a daemon.
type direct struct{ *app.Local }

func (d *direct) take(ctx context.Context, req *lockpb.AcquireRequest, queued func(*lockpb.Queued)) (tenancy, error) {
	h, err := takeLocal(ctx, d.Local, req, queued)
	return h, err
}

func (d *direct) get(ctx context.Context, lockID string) (*lockpb.Lock, error) {
	l, err := d.Store.Get(ctx, lockID)
	if err != nil {
		return nil, err
	}
	return localLock(l), nil
}

func (d *direct) name() string { return "the backend" }

// closeTimeout bounds the end of the backend's connections.
const closeTimeout = 5 * time.Second

func (d *direct) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return d.Close(ctx)
}
