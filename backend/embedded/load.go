package embedded

import (
	"fmt"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// load fills the memory from its file and starts the disk.
func (m *Memory) load() error {
	f, err := openFile(&m.o)
	if err != nil {
		return err
	}
	records, err := m.read(f)
	if err == nil {
		m.file, m.disk = f, newDisk(f.write, f.db.Close)
		for i := range m.shards {
			s := &m.shards[i]
			s.disk, s.clock, s.unwritten = m.disk, m.o.Clock, make(map[string]*unwritten)
		}
		for _, r := range records {
			m.shard(r.id).insert(r)
		}
		return nil
	}
	_ = f.db.Close()
	return err
}

// read reads the records. If their instants are not of this boot, each lease gets
// what it had left when it was written, and the file is brought up to that before
// anything is granted.
func (m *Memory) read(f *file) (records []*record, err error) {
	now := m.o.Clock.Now()
	written := make(map[*record]driver.Instant)
	boot, err := f.read(func(id string, raw []byte) error {
		r, at, err := decode(id, raw, now)
		if err != nil {
			return err
		}
		r.image = append([]byte(nil), raw...) // the library's memory ends with the transaction
		records = append(records, r)
		written[r] = at
		return nil
	})
	if err != nil {
		return nil, refusal(&m.o, err)
	}
	same := boot != "" && boot == m.o.Boot
	for _, at := range written {
		// A machine that was set back to a snapshot has the boot of before, but
		// the clock does not have what was written since.
		same = same && at <= now
	}
	if same {
		return records, nil
	}
	values := make(map[string][]byte, len(records))
	for _, r := range records {
		for _, h := range r.holders {
			h.expires = now.Add(max(0, h.expires.Sub(written[r])))
		}
		r.image = r.encode(now)
		values[r.id] = r.image
	}
	if err := f.begin(m.o.Boot, values); err != nil {
		return nil, fmt.Errorf("embedded: %w: writing %s: %w", driver.ErrUnavailable, m.o.Path, err)
	}
	return records, nil
}
