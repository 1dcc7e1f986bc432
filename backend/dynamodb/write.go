package dynamodb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// maxItem is below the 400 KB that an item may have.
const maxItem = 380 << 10

// read gets a record, as fresh as the store's writes. now is from after its receipt.
func (s *Store) read(ctx context.Context, lockID string) (r *record, at moment, err error) {
	consistent := true
	answer, _, err := once(ctx, s, reads, s.client.GetItem, &sdk.GetItemInput{
		TableName: &s.o.Table, Key: map[string]value{"k": text(s.recordKey(lockID))}, ConsistentRead: &consistent,
	})
	if err != nil {
		return nil, at, err
	}
	at = moment{now: s.o.Clock.Now(), wall: s.o.Now()}
	r, err = decode(lockID, answer.Item)
	if err != nil {
		return nil, at, err
	}
	s.look(r, at)
	return r, at, nil
}

// look fills in what this driver knows of the times of leases and places.
func (s *Store) look(r *record, at moment) {
	for _, h := range r.holders {
		o := s.leases.read(h.name(r.id), h.beat, h.ttl, at.now)
		h.since, h.own, h.expires = o.since, o.own, o.since.Add(h.ttl)
	}
	for _, w := range r.waiters {
		if w.driver == s.id {
			// A place that is not known here was dropped here.
			w.dies = s.places.deadline(placeName{r.id, w.request})
			continue
		}
		w.dies = never
		if beat, ok := s.beats.known(beatName{r.id, w.driver}); ok {
			seen := s.queued.read(placeName{r.id, w.request}, w.ticket, w.ttl, at.now)
			w.dies = max(beat.since, seen.since).Add(w.ttl)
		} else {
			s.queued.read(placeName{r.id, w.request}, w.ticket, w.ttl, at.now)
		}
	}
}

// never is later than every deadline.
const never = driver.Instant(1<<63 - 1)

// update sends one conditional write. answer asks for the item before or after it.
func (s *Store) update(ctx context.Context, lockID, condition, expression string, names map[string]string, values map[string]value, answer types.ReturnValue) (item map[string]value, sent driver.Instant, err error) {
	in := &sdk.UpdateItemInput{
		TableName: &s.o.Table, Key: map[string]value{"k": text(s.recordKey(lockID))}, ConditionExpression: &condition, UpdateExpression: &expression,
		ExpressionAttributeValues: values, ReturnValues: answer,
	}
	if len(names) > 0 {
		in.ExpressionAttributeNames = names
	}
	out, sent, err := once(ctx, s, writes, s.client.UpdateItem, in)
	if err != nil {
		return nil, sent, err
	}
	return out.Attributes, sent, nil
}

// write makes the store's record what a call has made of it, on the condition that
// it is still the one that was read. Refused, it fails with errRefused.
func (s *Store) write(ctx context.Context, r *record) (sent driver.Instant, err error) {
	set := []string{"f = :f", "v = :next"}
	values := map[string]value{":f": number(driver.Format), ":next": number(r.version + 1)}
	names := map[string]string{}
	var remove []string
	condition := absentCondition
	assign := func(name string, v value) {
		set = append(set, fmt.Sprintf("%s = :%s", name, name))
		values[":"+name] = v
	}
	if r.exists {
		condition = versionCondition
		values[":v"] = number(r.version)
	} else {
		leases := make(map[string]value)
		for _, h := range r.holders {
			leases[tokenName(h.token)] = h.encode()
		}
		assign("h", object(leases))
	}
	if r.change.last || !r.exists {
		assign("tok", number(r.last))
	}
	if r.change.queue || !r.exists {
		assign("seq", number(r.seq))
		assign("q", r.encodeQueue())
	}
	if r.change.ends || !r.exists {
		assign("gone", r.encodeEnds())
	}
	if r.exists {
		for i, h := range slices.Concat(r.change.put, r.change.removed) {
			name := fmt.Sprintf("#t%d", i)
			switch isRemoved := i >= len(r.change.put); {
			case isRemoved && h.read == 0:
				continue // made and removed by this call
			case isRemoved:
				remove = append(remove, "h."+name)
			default:
				set = append(set, fmt.Sprintf("h.%s = :h%d", name, i))
				values[fmt.Sprintf(":h%d", i)] = h.encode()
			}
			names[name] = tokenName(h.token)
			// What was only given up or forced may have been renewed meanwhile.
			expired := slices.Contains(r.change.expired, h)
			if h.read != 0 && (i < len(r.change.put) || expired) {
				condition += fmt.Sprintf(beatCondition, i, i)
				values[fmt.Sprintf(":b%d", i)] = number(h.read)
			}
		}
	}
	expression := "SET " + strings.Join(set, ", ")
	if len(remove) > 0 {
		expression += " REMOVE " + strings.Join(remove, ", ")
	}
	_, sent, err = s.update(ctx, r.id, condition, expression, names, values, types.ReturnValueNone)
	var item map[string]value
	if err == nil {
		item = r.item(r.version + 1)
	}
	s.latest.put(r.id, item, s.o.Clock.Now())
	return sent, err
}

// errFull is of an acquire for which the lock's item has no room.
var errFull = fmt.Errorf("%w: the lock's item would exceed what an item may have", driver.ErrLimit)

// full says whether a record has no room for so much more. Only what grows asks: no
// release fails for want of room.
func (r *record) full(more int) bool {
	n := 1024 + kept*160 + more
	for _, h := range r.holders {
		n += 24 + sizeOf(h.encode())
	}
	if n+len(r.waiters)*64 < maxItem/8 {
		return false // the common case
	}
	return n+sizeOf(r.encodeQueue()) > maxItem
}
