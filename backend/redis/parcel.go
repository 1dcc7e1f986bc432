package redis

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// maxTogether bounds the locks of one command: more save nothing more, and the
// server does nothing else meanwhile.
const maxTogether = 16

// parcel is one command, and the calls that it carries: several of a script of
// many locks, or one.
type parcel struct {
	calls []*call
	cmd   *redis.Cmd
}

// pack puts calls into commands. The releases come first: a caller may have sent
// one before it asks for the lock again, but it cannot release what it has not
// got.
func (n *node) pack(batch []*call) []parcel {
	most := maxTogether
	if n.s.slots != nil || n.apart.Load() {
		most = 1
	}
	sorted := make([]*call, 0, len(batch))
	for rank := range ranks {
		for _, c := range batch {
			if c.rank() == rank {
				sorted = append(sorted, c)
			}
		}
	}
	parcels := make([]parcel, 0, len(sorted))
	for len(sorted) > 0 {
		end := 1
		for sorted[0].own != nil && end < min(most, len(sorted)) && sorted[end].script == sorted[0].script {
			end++
		}
		parcels = append(parcels, parcel{calls: sorted[:end]})
		sorted = sorted[end:]
	}
	return parcels
}

const ranks = 3

// rank is the call's place among those of a pipeline.
func (c *call) rank() int {
	switch {
	case c.own == nil:
		return 1
	case c.gated:
		return 2
	}
	return 0
}

// send adds the command to a pipeline.
func (p *parcel) send(ctx context.Context, s *Store, pipe redis.Pipeliner) {
	first := p.calls[0]
	if first.asking {
		pipe.Do(ctx, "asking")
	}
	if first.own == nil {
		p.cmd = pipe.Do(ctx, first.args...)
		return
	}
	sc, keys := first.script, len(first.keys)*len(p.calls)
	args := make([]any, 0, 3+keys+sc.common+1+sc.own*len(p.calls))
	args = append(args, "evalsha", sc.sha, keys)
	if first.inFull {
		args[0], args[1] = "eval", sc.text
	}
	// A pointer to a text costs no allocation.
	for _, c := range p.calls {
		for i := range c.keys {
			args = append(args, &c.keys[i])
		}
	}
	for i := range sc.common {
		args = append(args, &s.common[i])
	}
	if first.gated {
		args = append(args, &first.start)
	}
	for _, c := range p.calls {
		for i := range c.own {
			args = append(args, &c.own[i])
		}
	}
	p.cmd = pipe.Do(ctx, args...)
}

// answer is the i-th call's. failed is the pipeline's error.
func (p *parcel) answer(i int, failed error) (reply []any, err error) {
	val, err := p.cmd.Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil // there is nothing
	case err != nil:
		return nil, err
	case val == nil:
		// A server that refused the connection's introduction: only the
		// pipeline has the error.
		return nil, unsentError{failed}
	}
	all, isList := val.([]any)
	c := p.calls[i]
	switch {
	case c.own == nil && isList:
		return all, nil
	case c.own == nil:
		return []any{val}, nil
	case len(all) != len(p.calls)+1:
		return nil, errShort
	}
	c.now = fields(all).integer(0)
	switch one := all[i+1].(type) {
	case error:
		return nil, one
	case []any:
		return one, nil
	}
	return all[i+1 : i+2], nil
}

// errShort is of a server that ran another script than it was told to.
var errShort = errors.New("a script of many locks did not answer each")

// unsent says that nothing was done of a parcel, which is to be sent in another
// way: its script is unknown, or the server wants its locks apart.
func (n *node) unsent(p *parcel, err error) bool {
	if len(p.calls) > 1 && strings.HasPrefix(err.Error(), "CROSSSLOT") {
		n.apart.Store(true)
		return true
	}
	return strings.HasPrefix(err.Error(), "NOSCRIPT")
}
