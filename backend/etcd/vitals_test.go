package etcd_test

import (
	"errors"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

func TestMeasuresTheQuotaOfTheMembers(t *testing.T) {
	t.Parallel()
	d := openAt(t, testenv.StartEtcd(t, testenv.EtcdOptions{}).URL())
	m, ok := driver.As[driver.Measurer](d)
	if !ok {
		t.Fatal("the driver does not measure")
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		v, err := m.Measure(t.Context())
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%+v, %v", v, err)
		}
		if v.MemoryUsed > 0 {
			if v.MemoryUsed >= 1 || v.Replicates {
				t.Errorf("%+v", v)
			}
			break
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Measure(t.Context()); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("a closed driver measured: %v", err)
	}
}
