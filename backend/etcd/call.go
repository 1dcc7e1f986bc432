package etcd

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// call makes one call under the driver's timeout. One that a member refused
// because it does not know the login is made once more: the client has logged in
// again by then.
func (s *Store) call(ctx context.Context, do func(context.Context, *clientv3.Client) error) (note *sent, err error) {
	note = new(sent)
	if err := s.check(ctx); err != nil {
		return note, err
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, sentKey{}, note), s.o.Timeout)
	defer cancel()
	c, err := s.connected()
	if err != nil {
		return note, err
	}
	if err = do(ctx, c); loggedOut(err) && s.o.Username != "" {
		err = do(ctx, c)
	}
	return note, err
}

// commit is a conditional write. An error says what became of it.
func (s *Store) commit(ctx context.Context, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	var resp *clientv3.TxnResponse
	before := s.condition.latest.Load()
	note, err := s.call(ctx, func(ctx context.Context, c *clientv3.Client) (err error) {
		resp, err = c.KV.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
		return err
	})
	if err != nil {
		return nil, s.outcome(err, note)
	}
	if err := s.condition.sees(resp.Header, before); err != nil {
		return resp, fmt.Errorf("%w: %w", driver.ErrIndeterminate, err) // what was done may have to be taken back
	}
	return resp, nil
}

// read reads several keys or ranges at one revision.
func (s *Store) read(ctx context.Context, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	var resp *clientv3.TxnResponse
	before := s.condition.latest.Load()
	_, err := s.call(ctx, func(ctx context.Context, c *clientv3.Client) (err error) {
		resp, err = c.KV.Txn(ctx).Then(ops...).Commit()
		return err
	})
	if err != nil {
		return nil, s.unread(err)
	}
	if err := s.condition.sees(resp.Header, before); err != nil {
		return nil, fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	return resp, nil
}

// get is a read of one range.
func (s *Store) get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	var resp *clientv3.GetResponse
	before := s.condition.latest.Load()
	_, err := s.call(ctx, func(ctx context.Context, c *clientv3.Client) (err error) {
		resp, err = c.KV.Get(ctx, key, opts...)
		return err
	})
	if err != nil {
		return nil, s.unread(err)
	}
	if err := s.condition.sees(resp.Header, before); err != nil {
		return nil, fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	return resp, nil
}
