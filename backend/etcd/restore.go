package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// verified compares the cluster with the stamp, unless that was done, and returns
// the stamp's id.
func (s *Store) verified(ctx context.Context) (known string, err error) {
	c := &s.condition
	for range 8 {
		known, ok := c.stands()
		if ok {
			return known, nil
		}
		if err := s.verify(ctx); err != nil && !errors.Is(err, errRestored) {
			return "", err
		}
	}
	return "", fmt.Errorf("%w: the cluster does not come to rest", driver.ErrUnavailable)
}

func (s *Store) verify(ctx context.Context) error {
	c := &s.condition
	c.verifying.Lock()
	defer c.verifying.Unlock()
	if _, ok := c.stands(); ok {
		return nil // another call has done it
	}
	connections := c.connections.Load()
	resp, err := s.get(ctx, s.keys.stamp())
	if err != nil {
		return err
	}
	if connections == 0 { // it was made for this
		connections = c.connections.Load()
	}
	var st stamp
	rev := int64(0)
	if len(resp.Kvs) > 0 {
		rev = resp.Kvs[0].ModRevision
		if err := decode(s.keys.stamp(), resp.Kvs[0].Value, &st); err != nil {
			return err
		}
	}
	why, err := s.compare(ctx, st, rev)
	if err != nil {
		return err
	}
	switch {
	case why != "":
		return s.pause(ctx, why, rev)
	case rev == 0:
		return s.stampNew(ctx) // and compare again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified, c.known, c.fell = connections, st.ID, ""
	return nil
}

// compare says why the cluster is not the one that it was, if it is not.
func (s *Store) compare(ctx context.Context, st stamp, rev int64) (why string, err error) {
	c := &s.condition
	c.mu.Lock()
	fell, known := c.fell, c.known
	c.mu.Unlock()
	if rev == 0 {
		return fell, nil
	}
	if st.Cluster != strconv.FormatUint(c.cluster.Load(), 16) {
		return "the store's stamp is of another cluster", nil
	}
	anew := true
	for range 5 { // an answer is no one moment: writes may come between its figures
		_, most, err := s.ahead(ctx, rev)
		if err != nil {
			return "", err
		}
		if anew = most < st.Ahead-1; !anew {
			break
		}
	}
	switch {
	case anew:
		return "the cluster's log has begun anew", nil
	case fell != "" && known != "" && known != st.ID:
		return "", nil // another has found it, and put this stamp
	}
	return fell, nil
}

// ahead asks members that have the revision by how much the index of their logs
// is ahead of theirs: the least and the most of some answers.
func (s *Store) ahead(ctx context.Context, rev int64) (least, most int64, err error) {
	least, most = 1<<62, -1<<62
	for answers, asked := 0, 0; answers < 3; asked++ {
		if asked == 16 {
			return 0, 0, fmt.Errorf("%w: the members that answer are behind", driver.ErrUnavailable)
		}
		var status *pb.StatusResponse
		_, err := s.call(ctx, func(ctx context.Context, c *clientv3.Client) (err error) {
			status, err = pb.NewMaintenanceClient(c.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
			return err
		})
		if err != nil {
			return 0, 0, s.unread(err)
		}
		if status.Header.Revision < rev {
			continue
		}
		answers++
		ahead := int64(status.RaftAppliedIndex) - status.Header.Revision //nolint:gosec // an index of a log
		least, most = min(least, ahead), max(most, ahead)
	}
	return least, most, nil
}
