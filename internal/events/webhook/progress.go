package webhook

import "sync"

// progress knows up to which number everything is done, although it is done in
// another order. It is bounded by what the lanes take.
type progress struct {
	mu   sync.Mutex
	base uint64
	// taken are those on their way, in their order; finished those of them that
	// are done.
	taken    []uint64
	finished map[uint64]bool
}

func (p *progress) begin(after uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.base, p.finished = after, make(map[uint64]bool)
}

func (p *progress) take(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = append(p.taken, n)
}

func (p *progress) done(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished[n] = true
	for len(p.taken) > 0 && p.finished[p.taken[0]] {
		p.base = p.taken[0]
		delete(p.finished, p.base)
		p.taken = p.taken[1:]
	}
}

func (p *progress) upTo() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.base
}
