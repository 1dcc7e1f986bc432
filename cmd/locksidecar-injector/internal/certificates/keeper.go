package certificates

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Store is where the replicas keep their pairs: a Secret.
type Store interface {
	// Load returns what is stored, with the version that Save needs. Nothing
	// stored, or nothing that can be read, is no error: then there are no pairs.
	Load(ctx context.Context) (pairs []*Pair, version string, err error)
	// Save stores pairs if nobody has since the version; else ErrConflict.
	Save(ctx context.Context, pairs []*Pair, version string) error
}

// ErrConflict is returned by Save if another replica was first.
var ErrConflict = errors.New("another replica was first")

// Bundles is the caBundle of the webhook's configuration.
type Bundles interface {
	// Read returns that of each webhook, with the version that Write needs.
	Read(ctx context.Context) (bundles [][]byte, version string, err error)
	// Write sets that of all webhooks if nobody has changed the configuration
	// since the version; else ErrConflict.
	Write(ctx context.Context, bundle []byte, version string) error
}

// Options are a keeper's.
type Options struct {
	// Store has the pairs; with ReadOnly none is made.
	Store    Store
	ReadOnly bool
	// Bundles is nil if somebody else keeps the caBundle.
	Bundles Bundles
	// Names are those for which the certificate is.
	Names                  []string
	Validity, RotateBefore time.Duration
	// Settle is how long a CA has to stand in the caBundle before its
	// certificate is served; 0 means DefaultSettle.
	Settle time.Duration
	// Now is the clock; nil means time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// DefaultSettle is far more than API servers need to learn of a caBundle.
const DefaultSettle = 30 * time.Second

// attempts bounds the conflicts of one step.
const attempts = 5

// Keeper keeps the certificate of one replica.
type Keeper struct {
	o Options

	mu      sync.Mutex
	pairs   []*Pair // those that the store had, or the last that it had
	served  *Pair
	trusted map[string]time.Time // since when a CA stands in the caBundle
	began   bool                 // the caBundle was read once
	problem error                // of the last step
}

// New returns a keeper that has nothing yet.
func New(o Options) *Keeper {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Settle == 0 {
		o.Settle = DefaultSettle
	}
	return &Keeper{o: o, trusted: map[string]time.Time{}, problem: errors.New("no certificate was looked for yet")}
}

// GetCertificate is that of a tls.Config.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.served == nil {
		return nil, errors.New("there is no certificate yet")
	}
	return k.served.parsed, nil
}

// Served is the pair that is served; nil before there is one.
func (k *Keeper) Served() *Pair {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.served
}

// Trusted says why the certificate that is served is not trusted by the API
// servers, as far as is known; nil if it is.
func (k *Keeper) Trusted() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch now := k.o.Now(); {
	case k.served == nil:
		return k.problem
	case now.After(k.served.NotAfter()):
		return fmt.Errorf("the certificate has ended at %v: %w", k.served.NotAfter().UTC(), k.why())
	case k.o.Bundles == nil:
		return nil
	case !k.stands(k.served):
		return fmt.Errorf("the certificate's CA is not in the caBundle yet: %w", k.why())
	case !k.settled(k.served, k.o.Settle) && k.younger(k.served):
		// Others serve what is trusted already; a first one has nothing to spoil.
		return errors.New("the certificate's CA is in the caBundle, and API servers are given time to learn of it")
	}
	return nil
}

func (k *Keeper) why() error {
	if k.problem == nil {
		return errors.New("it is about to be replaced")
	}
	return k.problem
}

// RotateAt is when the served certificate is to be replaced.
func (k *Keeper) RotateAt(p *Pair) time.Time {
	if k.o.ReadOnly {
		// As cert-manager does: after two thirds of its life.
		return p.leaf.NotAfter.Add(-p.leaf.NotAfter.Sub(p.leaf.NotBefore) / 3)
	}
	return p.leaf.NotAfter.Add(-k.o.RotateBefore)
}

// Step looks at what is stored and at the caBundle, makes and writes what is
// missing, and chooses what is served. It is for one goroutine, which calls it
// again and again.
func (k *Keeper) Step(ctx context.Context) error {
	err := k.stored(ctx)
	if e := k.bundled(ctx); e != nil {
		err = errors.Join(err, fmt.Errorf("caBundle: %w", e))
	}
	k.choose(err)
	return err
}

// stored brings what is stored into order.
func (k *Keeper) stored(ctx context.Context) error {
	for range attempts {
		now := k.o.Now()
		loaded, version, err := k.o.Store.Load(ctx)
		if err != nil {
			return fmt.Errorf("certificates: %w", err)
		}
		if k.o.ReadOnly {
			return k.others(loaded, now)
		}
		pairs := k.valid(loaded, now)
		if len(pairs) == 0 {
			// What this replica has is as good: API servers know it already.
			pairs = k.valid(k.known(), now)
		}
		if len(pairs) == 0 || !now.Before(k.RotateAt(pairs[len(pairs)-1])) {
			made, err := makePair(k.o.Names, now, k.o.Validity)
			if err != nil {
				return fmt.Errorf("certificates: %w", err)
			}
			pairs = append(pairs, made)
		}
		if same(pairs, loaded) {
			k.keep(pairs)
			return nil
		}
		switch err := k.o.Store.Save(ctx, pairs, version); {
		case errors.Is(err, ErrConflict):
			continue
		case err != nil:
			return fmt.Errorf("certificates: %w", err)
		}
		k.o.Logger.Info("certificates were stored", "certificates", len(pairs), "not_after", pairs[len(pairs)-1].NotAfter())
		k.keep(pairs)
		return nil
	}
	return fmt.Errorf("certificates: %w, %d times", ErrConflict, attempts)
}

// errAuthority is about a certificate that no API server would come to trust.
var errAuthority = errors.New("certificates: there is no ca.crt beside tls.crt, and the caBundle is kept by it: add it, or let somebody else keep the caBundle")

// others takes over a pair that somebody else made. The one before it is known
// here alone, and is served until API servers know the new one's CA.
func (k *Keeper) others(loaded []*Pair, now time.Time) error {
	for _, p := range loaded {
		if k.o.Bundles != nil && len(p.cas) == 0 {
			return errAuthority
		}
		if err := p.check(k.o.Names, now); err != nil {
			return fmt.Errorf("certificates: %w", err)
		}
	}
	known := slices.DeleteFunc(k.valid(k.known(), now), func(p *Pair) bool { return slices.ContainsFunc(loaded, p.same) })
	pairs := append(known, loaded...)
	k.keep(pairs[max(0, len(pairs)-maxPairs):])
	return nil
}

func (k *Keeper) known() []*Pair {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pairs
}

func (k *Keeper) keep(pairs []*Pair) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pairs = pairs
}

// valid are the pairs that are good for the names now, the one that ends last at
// the end, each once, and of many the last ones.
func (k *Keeper) valid(pairs []*Pair, now time.Time) (valid []*Pair) {
	for _, p := range pairs {
		if p.check(k.o.Names, now) == nil && !slices.ContainsFunc(valid, p.same) {
			valid = append(valid, p)
		}
	}
	slices.SortStableFunc(valid, func(a, b *Pair) int { return a.NotAfter().Compare(b.NotAfter()) })
	return valid[max(0, len(valid)-maxPairs):]
}

// maxPairs bounds what is kept: one that is served, one that follows it.
const maxPairs = 2

func same(a, b []*Pair) bool {
	return slices.EqualFunc(a, b, (*Pair).same)
}
