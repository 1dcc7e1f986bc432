package dynamodb

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// value is an attribute's.
type value = types.AttributeValue

func number(n int64) value { return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)} }

func text(s string) value { return &types.AttributeValueMemberS{Value: s} }

func truthOf(b bool) value { return &types.AttributeValueMemberBOOL{Value: b} }

func list(l []value) value {
	if l == nil {
		l = []value{} // the SDK leaves out what is nil
	}
	return &types.AttributeValueMemberL{Value: l}
}

func object(m map[string]value) value { return &types.AttributeValueMemberM{Value: m} }

func texts(all ...string) value {
	l := make([]value, len(all))
	for i, s := range all {
		l[i] = text(s)
	}
	return list(l)
}

func tokenName(token int64) string { return strconv.FormatInt(token, 10) }

// micros is a TTL as it is stored: whole µs, rounded up.
func micros(d time.Duration) int64 { return int64((d + time.Microsecond - 1) / time.Microsecond) }

func (h *holder) encode() value {
	m := map[string]value{
		"o": text(h.owner), "k": text(string(h.key)), "s": truthOf(h.shared), "r": texts(h.holds...), "a": number(h.attach),
		"hb": number(h.beat), "tl": number(micros(h.ttl)), "rv": truthOf(h.revoked),
	}
	if len(h.metadata) > 0 {
		raw, _ := json.Marshal(h.metadata) // strings can be
		m["m"] = text(string(raw))
	}
	return object(m)
}

func (r *record) encodeQueue() value {
	// By ticket, as they came: the order among them is worked out by whoever reads.
	byTicket := slices.SortedFunc(slices.Values(r.waiters), func(a, b *waiter) int { return cmp.Compare(a.ticket, b.ticket) })
	l := make([]value, len(byTicket))
	for i, w := range byTicket {
		l[i] = w.encode()
	}
	return list(l)
}

func (w *waiter) encode() value {
	return object(map[string]value{
		"r": text(w.request), "o": text(w.owner), "n": number(w.ticket), "p": number(int64(w.priority)), "s": truthOf(w.shared),
		"k": text(string(w.key)), "d": text(w.driver), "tl": number(micros(w.ttl)),
	})
}

// encode is the two texts of an end. The token and the cause have no spaces.
func (e end) encode() []value {
	return []value{text(e.mark), text(tokenName(e.token) + " " + string(e.cause) + " " + string(e.key))}
}

func (r *record) encodeEnds() value {
	l := make([]value, 0, 2*len(r.ends))
	for _, e := range r.ends {
		l = append(l, e.encode()...)
	}
	return list(l)
}

// item is the whole of a record but its key, as it is written with a version.
func (r *record) item(version int64) map[string]value {
	leases := make(map[string]value)
	for _, h := range r.holders {
		leases[tokenName(h.token)] = h.encode()
	}
	return map[string]value{
		"f": number(driver.Format), "v": number(version), "tok": number(r.last), "seq": number(r.seq), "h": object(leases),
		"q": r.encodeQueue(), "gone": r.encodeEnds(),
	}
}

// reader takes the attributes of an item; the first that is missing or of another
// kind is in bad.
type reader struct{ bad string }

func (d *reader) wrong(name string) {
	if d.bad == "" {
		d.bad = name
	}
}

func (d *reader) number(m map[string]value, name string) int64 {
	v, ok := m[name].(*types.AttributeValueMemberN)
	if !ok {
		d.wrong(name)
		return 0
	}
	n, err := strconv.ParseInt(v.Value, 10, 64)
	if err != nil {
		d.wrong(name)
	}
	return n
}

func (d *reader) text(m map[string]value, name string) string {
	v, ok := m[name].(*types.AttributeValueMemberS)
	if !ok {
		d.wrong(name)
		return ""
	}
	return v.Value
}

func (d *reader) truth(m map[string]value, name string) bool {
	v, ok := m[name].(*types.AttributeValueMemberBOOL)
	if !ok {
		d.wrong(name)
		return false
	}
	return v.Value
}

func (d *reader) list(m map[string]value, name string) []value {
	v, ok := m[name].(*types.AttributeValueMemberL)
	if !ok {
		d.wrong(name)
		return nil
	}
	return v.Value
}

func (d *reader) object(v value, name string) map[string]value {
	m, ok := v.(*types.AttributeValueMemberM)
	if !ok {
		d.wrong(name)
		return nil
	}
	return m.Value
}

func (d *reader) texts(m map[string]value, name string) (all []string) {
	for _, v := range d.list(m, name) {
		all = append(all, d.text(map[string]value{name: v}, name))
	}
	return all
}

// decode reads an item; nil is that of a lock that never was.
func decode(lockID string, item map[string]value) (*record, error) {
	r := &record{id: lockID}
	if item == nil {
		return r, nil
	}
	d := &reader{}
	if format := d.number(item, "f"); d.bad == "" && format > driver.Format {
		return nil, fmt.Errorf("the record of %q has format %d, this version reads format %d: %w", lockID, format, driver.Format, driver.ErrFormat)
	}
	r.exists, r.version, r.last, r.seq = true, d.number(item, "v"), d.number(item, "tok"), d.number(item, "seq")
	for token, v := range d.object(item["h"], "h") {
		m := d.object(v, "h")
		h := &holder{
			owner: d.text(m, "o"), key: driver.Key(d.text(m, "k")), shared: d.truth(m, "s"), holds: d.texts(m, "r"), attach: d.number(m, "a"),
			beat: d.number(m, "hb"), ttl: time.Duration(d.number(m, "tl")) * time.Microsecond, revoked: d.truth(m, "rv"),
		}
		h.token, h.read = d.number(map[string]value{"h": &types.AttributeValueMemberN{Value: token}}, "h"), h.beat
		if _, ok := m["m"]; ok && json.Unmarshal([]byte(d.text(m, "m")), &h.metadata) != nil {
			d.wrong("m")
		}
		r.holders = append(r.holders, h)
	}
	slices.SortFunc(r.holders, func(a, b *holder) int { return cmp.Compare(a.token, b.token) })
	for _, v := range d.list(item, "q") {
		m := d.object(v, "q")
		r.waiters = append(r.waiters, &waiter{
			request: d.text(m, "r"), owner: d.text(m, "o"), ticket: d.number(m, "n"), priority: int(d.number(m, "p")), shared: d.truth(m, "s"),
			key: driver.Key(d.text(m, "k")), driver: d.text(m, "d"), ttl: time.Duration(d.number(m, "tl")) * time.Microsecond,
		})
	}
	slices.SortFunc(r.waiters, compareWaiters)
	gone := d.texts(item, "gone")
	if len(gone)%2 != 0 {
		d.wrong("gone")
		gone = nil
	}
	for ; len(gone) > 0; gone = gone[2:] {
		parts := strings.SplitN(gone[1], " ", 3)
		if len(parts) != 3 {
			d.wrong("gone")
			break
		}
		token, err := strconv.ParseInt(parts[0], 10, 64)
		if err != nil {
			d.wrong("gone")
		}
		r.ends = append(r.ends, end{mark: gone[0], token: token, cause: driver.Cause(parts[1]), key: driver.Key(parts[2])})
	}
	if d.bad != "" {
		return nil, fmt.Errorf("the record of %q cannot be read, its attribute %s is missing or of another kind: %w", lockID, d.bad, driver.ErrFormat)
	}
	return r, nil
}

// sizeOf is what a value takes in an item, rather too much than too little.
func sizeOf(v value) int {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return len(v.Value)
	case *types.AttributeValueMemberN:
		return len(v.Value)/2 + 2
	case *types.AttributeValueMemberL:
		n := 3
		for _, e := range v.Value {
			n += 1 + sizeOf(e)
		}
		return n
	case *types.AttributeValueMemberM:
		n := 3
		for name, e := range v.Value {
			n += 1 + len(name) + sizeOf(e)
		}
		return n
	}
	return 1
}
