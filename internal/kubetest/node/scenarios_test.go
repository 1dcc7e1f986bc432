//go:build cluster

package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// helm test runs a labelled pod in the release's own namespace, which takes a lock.
func testCheck(t *testing.T) {
	out := cluster.Helm(t, "test", "locksidecar", "-n", releaseNamespace, "--logs", "--timeout", "80s")
	if !strings.Contains(out, "Succeeded") {
		t.Error(out)
	}
}

// The application is started when the sidecar answers, by the startup probe: its
// first connect succeeds without a second attempt, though it runs as another user.
// It cannot write where the socket is.
func testFirstConnect(t *testing.T) {
	d := direct(t)
	d.run(t, "first")
	if s := d.await(t, "first", "connect"); s.Error != "" || s.Value != "10001" {
		t.Errorf("the first connect, as %s: %s", s.Value, s.Error)
	}
	if s := d.do(t, "first", "take first"); s.Token == 0 || s.Lease == "" {
		t.Errorf("the lease is %+v", s)
	}
	if s := d.try(t, "first", "write"); !strings.Contains(s.Error, "read-only") {
		t.Errorf("the application writes to the socket's directory: %q", s.Error)
	}
	sidecar := look(t, "first").sidecar(t)
	if uid, gid := idsOf(t, sidecar.ContainerID); uid != "65532" || gid != "65532" {
		t.Errorf("the sidecar runs as %s:%s", uid, gid)
	}
	d.do(t, "first", "release first")
	d.do(t, "first", "exit")
}

// processOf finds the process of a container's daemon: the node's processes are this
// namespace's.
func processOf(t *testing.T, containerID string) int {
	t.Helper()
	_, id, _ := strings.Cut(containerID, "//")
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil || id == "" {
		t.Fatalf("container %q: %v", containerID, err)
	}
	for _, f := range files {
		groups, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(groups), id) {
			continue // it has ended, or is another's
		}
		dir := filepath.Dir(f)
		if command, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil && strings.HasPrefix(string(command), "/locksidecar\x00serve\x00") {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no daemon in container %s", id)
	return 0
}

func idsOf(t *testing.T, containerID string) (uid, gid string) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", processOf(t, containerID)))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(raw), "\nUid:")
	_, group, _ := strings.Cut(after, "\nGid:")
	return strings.Fields(after)[0], strings.Fields(group)[0]
}

// holders is how many hold a lock, by the word of another pod's sidecar.
func (d *director) holders(t *testing.T, observer, lock string) string {
	t.Helper()
	return d.do(t, observer, "get "+lock).Value
}

// A Job's pod ends when its application does: the sidecar drains and ends after it,
// with success, and what the application still held is released.
func testJob(t *testing.T) {
	d := direct(t)
	d.run(t, "observer")
	d.await(t, "observer", "connect")
	cluster.KubectlIn(t, fmt.Sprintf(`{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"}, "spec": {"backoffLimit": 0, "template": %s}}`,
		template([]string{"direct", d.url}, `"restartPolicy": "Never",`)), "create", "-n", appsNamespace, "-f", "-")
	name := d.newcomer(t, "work-")
	if s := d.await(t, name, "connect"); s.Error != "" {
		t.Error(s.Error)
	}
	d.do(t, name, "hold job/lock")
	if n := d.holders(t, "observer", "job/lock"); n != "1" {
		t.Errorf("%s hold the Job's lock", n)
	}
	d.do(t, name, "exit")
	cluster.Kubectl(t, "wait", "-n", appsNamespace, "--for=condition=Complete", "--timeout=80s", "job/work")
	var s status
	cluster.Eventually(t, "the pod has succeeded", func() error {
		if s = look(t, name); s.Status.Phase != "Succeeded" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	sidecar, app := s.sidecar(t), s.Status.ContainerStatuses[0]
	if sidecar.State.Terminated == nil || sidecar.State.Terminated.ExitCode != 0 || sidecar.RestartCount != 0 {
		t.Errorf("the sidecar ended as %+v", sidecar)
	} else if sidecar.State.Terminated.FinishedAt < app.State.Terminated.FinishedAt {
		t.Errorf("the sidecar ended at %s, the application at %s", sidecar.State.Terminated.FinishedAt, app.State.Terminated.FinishedAt)
	}
	if n := d.holders(t, "observer", "job/lock"); n != "0" {
		t.Errorf("%s hold the Job's lock after its end", n)
	}
	d.do(t, "observer", "exit")
}

// newcomer waits for an application in a pod of a controller.
func (d *director) newcomer(t *testing.T, prefix string) (name string) {
	t.Helper()
	cluster.Eventually(t, "an application of "+prefix, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		for name = range d.pods {
			if strings.HasPrefix(name, prefix) {
				return nil
			}
		}
		return errNotYet
	})
	return name
}

// A pod that is deleted: the application is told, and as long as it goes on, so does
// its sidecar, which still serves it; then the sidecar ends, and the pod is gone.
func testDelete(t *testing.T) {
	d := direct(t)
	d.run(t, "observer-of-end")
	d.await(t, "observer-of-end", "connect")
	d.run(t, "ending")
	d.await(t, "ending", "connect")
	d.do(t, "ending", "hold end/held")
	d.do(t, "ending", "take end/before")
	cluster.Kubectl(t, "delete", "pod", "ending", "-n", appsNamespace, "--wait=false")
	d.await(t, "ending", "SIGTERM")
	// The kubelet ended the application's container first, and waits for it.
	d.do(t, "ending", "release end/before")
	d.do(t, "ending", "take end/after")
	s := look(t, "ending")
	if s.Metadata.DeletionTimestamp == "" {
		t.Error("the pod is not being deleted")
	}
	if sidecar := s.sidecar(t); sidecar.State.Running == nil || sidecar.RestartCount != 0 {
		t.Errorf("while the application ends, the sidecar is %+v", sidecar)
	}
	if n := d.holders(t, "observer-of-end", "end/held"); n != "1" {
		t.Errorf("%s hold the lock while the application ends", n)
	}
	d.do(t, "ending", "release end/after")
	d.do(t, "ending", "exit")
	cluster.Kubectl(t, "wait", "-n", appsNamespace, "--for=delete", "--timeout=80s", "pod/ending")
	if n := d.holders(t, "observer-of-end", "end/held"); n != "0" {
		t.Errorf("%s hold the lock of the pod that is gone", n)
	}
	d.do(t, "observer-of-end", "exit")
}

// A sidecar that is killed is started again by the kubelet, the application goes on,
// attaches to it and has the same lease with the same token, which nobody else had
// in between.
func testKill(t *testing.T) {
	d := direct(t)
	d.run(t, "survivor")
	d.await(t, "survivor", "connect")
	before := d.do(t, "survivor", "take kill/kept")
	sidecar := look(t, "survivor").sidecar(t)
	if err := syscall.Kill(processOf(t, sidecar.ContainerID), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the kubelet starts the sidecar again", func() error {
		now := look(t, "survivor").sidecar(t)
		if now.RestartCount != 1 || now.State.Running == nil || !now.Started || now.ContainerID == sidecar.ContainerID {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	if n := d.holders(t, "survivor", "kill/kept"); n != "1" {
		t.Errorf("%s hold the lock", n)
	}
	after := d.do(t, "survivor", "lease kill/kept")
	if after.Token != before.Token || after.Lease != before.Lease || after.Value != "" {
		t.Errorf("the lease was %+v, and is %+v", before, after)
	}
	d.renewed(t, "survivor", "kill/kept")
	d.do(t, "survivor", "release kill/kept")
	if app := look(t, "survivor").Status.ContainerStatuses[0]; app.RestartCount != 0 {
		t.Errorf("the application was restarted %d times", app.RestartCount)
	}
	d.do(t, "survivor", "exit")
}

// renewed waits until the new sidecar has renewed the lease: it is attached.
func (d *director) renewed(t *testing.T, pod, lock string) {
	t.Helper()
	first := d.do(t, pod, "until "+lock)
	cluster.Eventually(t, "the lease is renewed", func() error {
		if now := d.do(t, pod, "until "+lock); now.Token <= first.Token {
			return fmt.Errorf("it ends at %d, as before", now.Token)
		}
		return nil
	})
}

// While a Deployment's pods are replaced one by one, old and new ones add to a
// counter under one lock; every increment counts.
func testRollingUpdate(t *testing.T) {
	d := direct(t)
	args := []string{"count", d.url, "rolling/counter"}
	deployment := func(version string) string {
		of := strings.Replace(template(args, ""), `"app": "app"`, `"app": "counting"`, 1)
		var object map[string]any
		if err := json.Unmarshal([]byte(of), &object); err != nil {
			t.Fatal(err)
		}
		object["metadata"].(map[string]any)["annotations"] = map[string]string{"version": version}
		raw, err := json.Marshal(map[string]any{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "counting"},
			"spec": map[string]any{
				"replicas": 3, "template": object, "selector": map[string]any{"matchLabels": map[string]string{"app": "counting"}},
				"strategy": map[string]any{"rollingUpdate": map[string]any{"maxSurge": 1, "maxUnavailable": 1}},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	apply := func(version string) {
		cluster.KubectlIn(t, deployment(version), "apply", "-n", appsNamespace, "-f", "-")
		cluster.Kubectl(t, "rollout", "status", "-n", appsNamespace, "deployment/counting", "--timeout=80s")
	}
	writers := func(n int) {
		cluster.Eventually(t, fmt.Sprintf("%d pods have written", n), func() error {
			if c := d.counted(); len(c.writers) < n {
				return fmt.Errorf("%v", c.writers)
			}
			return nil
		})
	}
	apply("1")
	writers(3)
	apply("2")
	writers(6)
	cluster.Kubectl(t, "delete", "deployment/counting", "-n", appsNamespace, "--cascade=foreground")
	cluster.Kubectl(t, "wait", "-n", appsNamespace, "--for=delete", "--timeout=80s", "pods", "-l", "app=counting")
	c := d.counted()
	t.Logf("%d increments by %v", c.writes, c.writers)
	if c.value != c.writes || c.late != 0 {
		t.Errorf("the counter is %d after %d increments; %d came by an older token", c.value, c.writes, c.late)
	}
	// Every application ended by itself.
	for _, e := range failures(t, "counting") {
		t.Error(e)
	}
}

// failures are the events of pods that did not end well.
func failures(t *testing.T, prefix string) (found []string) {
	t.Helper()
	var list struct {
		Items []struct {
			Reason, Message string
			InvolvedObject  struct{ Name string }
		}
	}
	out, err := cluster.TryKubectl(t, "", "get", "events", "-n", appsNamespace, "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Items {
		if strings.HasPrefix(e.InvolvedObject.Name, prefix) && (e.Reason == "BackOff" || e.Reason == "Failed") {
			found = append(found, e.InvolvedObject.Name+": "+e.Message)
		}
	}
	return found
}
