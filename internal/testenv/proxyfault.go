package testenv

import (
	"slices"
	"strings"
	"sync"
)

// Fault is what a proxy does to one request.
type Fault int

// The faults.
const (
	// LoseRequest loses the request, and all that follows on its connection,
	// which stays open: the server never sees it.
	LoseRequest Fault = iota + 1
	// BreakRequest resets the connection in place of the request: the server
	// never sees it.
	BreakRequest
	// HoldRequest keeps the request back until Release. The server gets it then,
	// even if the client has gone.
	HoldRequest
	// DuplicateRequest gives the request to the server twice; the client gets the
	// first reply.
	DuplicateRequest
	// LoseReply lets the server do what it was asked for and loses the reply, and
	// all that follows on the connection, which stays open.
	LoseReply
	// BreakReply lets the server do what it was asked for and resets the
	// connection in place of the reply.
	BreakReply
	// TearReply is like BreakReply after half of the reply, by a plain close.
	TearReply
	// HoldReply keeps the reply back until Release.
	HoldReply
)

// String is the fault's name.
func (f Fault) String() string {
	names := []string{"none", "lose request", "break request", "hold request", "duplicate request", "lose reply", "break reply", "tear reply", "hold reply"}
	if f < 0 || int(f) >= len(names) {
		return "unknown"
	}
	return names[f]
}

// Faults are all of them.
func Faults() []Fault {
	return []Fault{LoseRequest, BreakRequest, HoldRequest, DuplicateRequest, LoseReply, BreakReply, TearReply, HoldReply}
}

// Injection is a fault that waits for its request.
type Injection struct {
	fault    Fault
	commands []string
	left     int // requests until the one that is meant; 0 once it came
	met      chan struct{}
	release  chan struct{}
	answered chan struct{}
	once     sync.Once
}

// FailAt does something to the n-th of the requests from now on, the first
// being 1, over all connections. Commands are those that count, by their names;
// without any, all do, and those by which a client opens a connection too. It
// replaces an earlier fault that has not met its request. The client must speak
// RESP in the clear, and its replies must come in order: those of a RESP2
// subscription cannot be told from others.
func (p *Proxy) FailAt(n int, f Fault, commands ...string) *Injection {
	i := newInjection(n, f, commands)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan = i
	return i
}

func newInjection(n int, f Fault, commands []string) *Injection {
	i := &Injection{fault: f, left: n, met: make(chan struct{}), release: make(chan struct{}), answered: make(chan struct{})}
	for _, c := range commands {
		i.commands = append(i.commands, strings.ToUpper(c))
	}
	return i
}

// Met is closed when the fault has happened. If it is about the reply or about a
// duplicate, the server has done by then what it was asked for.
func (i *Injection) Met() <-chan struct{} { return i.met }

// Happened tells whether Met is closed: a loop over the requests of an operation
// ends with the first that it has not got.
func (i *Injection) Happened() bool {
	select {
	case <-i.met:
		return true
	default:
		return false
	}
}

// Fault is what was asked for.
func (i *Injection) Fault() Fault { return i.fault }

// Release lets go what HoldRequest or HoldReply keeps back, at most once.
func (i *Injection) Release() { i.once.Do(func() { close(i.release) }) }

// Answered is closed when the server has done what HoldRequest kept back and
// Release let go, at an EtcdProxy.
func (i *Injection) Answered() <-chan struct{} { return i.answered }

// what is the fault, zero if there is none.
func (i *Injection) what() Fault {
	if i == nil {
		return 0
	}
	return i.fault
}

func (i *Injection) wait(stop <-chan struct{}) {
	select {
	case <-i.release:
	case <-stop:
	}
}

// meet is the injection that a request meets, mostly none.
func (p *Proxy) meet(command string) *Injection {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.plan
	if !i.meant(command) {
		return nil
	}
	p.plan = nil
	return i
}

// meant counts a request and tells whether it is the one that is meant.
func (i *Injection) meant(command string) bool {
	if i == nil || len(i.commands) > 0 && !slices.Contains(i.commands, command) {
		return false
	}
	i.left--
	return i.left == 0
}
