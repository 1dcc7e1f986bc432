package certificates

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"time"
)

// maxAuthorities bounds a caBundle.
const maxAuthorities = 8

// bundled brings the caBundle into order: the CAs of all pairs are in it, those
// that it has already stay until they end.
func (k *Keeper) bundled(ctx context.Context) error {
	if k.o.Bundles == nil {
		return nil
	}
	for range attempts {
		bundles, version, err := k.o.Bundles.Read(ctx)
		if err != nil {
			return err
		}
		if len(bundles) == 0 {
			return errors.New("the configuration has no webhooks")
		}
		now := k.o.Now()
		k.begin(bundles, now)
		want := k.wanted(bundles, now)
		if len(want) == 0 || slices.IndexFunc(bundles, func(b []byte) bool { return !bytes.Equal(b, encode(want)) }) < 0 {
			k.seen(bundles, now)
			return nil
		}
		switch err := k.o.Bundles.Write(ctx, encode(want), version); {
		case errors.Is(err, ErrConflict):
			continue
		case err != nil:
			return err
		}
		k.o.Logger.Info("the caBundle was written", "authorities", len(want))
		k.seen([][]byte{encode(want)}, now)
		return nil
	}
	return ErrConflict
}

// wanted are the CAs that the caBundle should have: what it has, without what has
// ended and what is no certificate, and those of the pairs.
func (k *Keeper) wanted(bundles [][]byte, now time.Time) (want []*x509.Certificate) {
	add := func(c *x509.Certificate) {
		if !now.After(c.NotAfter) && !slices.ContainsFunc(want, c.Equal) {
			want = append(want, c)
		}
	}
	for _, b := range bundles {
		for _, c := range authorities(b) {
			add(c)
		}
	}
	pairs := k.known()
	if p := k.Served(); p != nil {
		pairs = append(slices.Clone(pairs), p)
	}
	for _, p := range pairs {
		for _, c := range p.cas {
			add(c)
		}
	}
	return want[max(0, len(want)-maxAuthorities):]
}

func encode(all []*x509.Certificate) (bundle []byte) {
	for _, c := range all {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return bundle
}

// begin takes what stands in the caBundle when the process starts for as old as it
// says that it is: its maker wrote it there at once.
func (k *Keeper) begin(bundles [][]byte, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.began {
		return
	}
	k.began = true
	for _, c := range authorities(bundles[0]) {
		made := c.NotBefore
		if !k.o.ReadOnly {
			made = made.Add(backdated)
		}
		if made.After(now) {
			made = now
		}
		k.trusted[string(c.Raw)] = made
	}
}

// seen remembers since when each CA has stood in all webhooks' caBundles.
func (k *Keeper) seen(bundles [][]byte, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.trusted
	k.trusted = map[string]time.Time{}
	for _, c := range authorities(bundles[0]) {
		everywhere := !slices.ContainsFunc(bundles, func(b []byte) bool { return !slices.ContainsFunc(authorities(b), c.Equal) })
		if !everywhere {
			continue
		}
		since, ok := was[string(c.Raw)]
		if !ok {
			since = now
		}
		k.trusted[string(c.Raw)] = since
	}
}

// stands says whether a pair's CA was in the caBundle when it was last read.
func (k *Keeper) stands(p *Pair) bool { return k.settled(p, 0) }

// settled says whether it has stood there for so long.
func (k *Keeper) settled(p *Pair, long time.Duration) bool {
	now := k.o.Now()
	return slices.ContainsFunc(p.cas, func(c *x509.Certificate) bool {
		since, ok := k.trusted[string(c.Raw)]
		return ok && now.Sub(since) >= long
	})
}

// younger says whether another CA stood in the caBundle before a pair's.
func (k *Keeper) younger(p *Pair) bool {
	first := time.Time{}
	for _, since := range k.trusted {
		if first.IsZero() || since.Before(first) {
			first = since
		}
	}
	return !slices.ContainsFunc(p.cas, func(c *x509.Certificate) bool {
		since, ok := k.trusted[string(c.Raw)]
		return ok && !since.After(first)
	})
}

// choose decides what is served: the newest pair that API servers surely trust;
// else what was served, while it is valid; else the oldest whose CA stands in the
// caBundle, or the oldest at all.
func (k *Keeper) choose(problem error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.problem = problem
	pick := k.pick()
	if pick != nil && !pick.same(k.served) {
		k.o.Logger.Info("another certificate is served", "not_after", pick.NotAfter())
		k.served = pick
	}
}

func (k *Keeper) pick() *Pair {
	if k.o.Bundles == nil && len(k.pairs) > 0 {
		return k.pairs[len(k.pairs)-1]
	}
	for _, p := range slices.Backward(k.pairs) {
		if k.settled(p, k.o.Settle) {
			return p
		}
	}
	if k.served != nil && k.o.Now().Before(k.served.NotAfter()) {
		return k.served
	}
	if i := slices.IndexFunc(k.pairs, k.stands); i >= 0 {
		return k.pairs[i]
	}
	if len(k.pairs) > 0 {
		return k.pairs[0]
	}
	return nil
}
