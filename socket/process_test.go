package socket_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// child is the test binary as another process. It holds the lock "held" until
// its standard input ends.
func child(role string) int {
	var err error
	switch role {
	case "grpc", "linger":
		err = childGRPC(role == "linger")
	case "http", "inherit":
		err = childHTTP(role == "inherit")
	case "connect":
		var c net.Conn
		if c, err = net.Dial("unix", os.Getenv("SOCKET_TEST_PATH")); err == nil {
			_, err = io.WriteString(c, "GET /locks/a HTTP/1.1\r\nHost: x\r\n\r\n")
			fmt.Println("granted")
		}
	case "greedy":
		err = childGreedy()
	case "idle":
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func childGRPC(linger bool) error {
	conn, err := grpc.NewClient("unix://"+os.Getenv("SOCKET_TEST_PATH"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	st, err := lockpb.NewLockServiceClient(conn).Hold(context.Background())
	if err != nil {
		return err
	}
	err = st.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{
		LockId: "held", Ttl: seconds(60), Linger: linger,
	}}})
	if err != nil {
		return err
	}
	r, err := st.Recv()
	if err == nil && r.GetGranted() == nil {
		err = fmt.Errorf("not granted: %v", r)
	}
	fmt.Println("granted")
	return err
}

// childHTTP holds by HTTP. It may hand its connection to a child of its own,
// which keeps it open.
func childHTTP(inherit bool) error {
	c, err := net.Dial("unix", os.Getenv("SOCKET_TEST_PATH"))
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, "http://localhost/locks/held:hold", strings.NewReader(`{"ttl":"60s"}`))
	if err != nil {
		return err
	}
	if err := req.Write(c); err != nil {
		return err
	}
	head := make([]byte, 15)
	if _, err := io.ReadFull(c, head); err != nil || string(head) != "HTTP/1.1 200 OK" {
		return fmt.Errorf("answer %q, %w", head, err)
	}
	if inherit {
		f, err := c.(*net.UnixConn).File()
		if err != nil {
			return err
		}
		grandchild := exec.Command(os.Args[0])
		grandchild.Env = append(os.Environ(), "SOCKET_TEST_ROLE=idle")
		grandchild.Stdin = os.Stdin
		grandchild.ExtraFiles = []*os.File{f}
		if err := grandchild.Start(); err != nil {
			return err
		}
	}
	fmt.Println("granted")
	return nil
}

// spawn starts a child that holds the lock, and ends it with the test.
func spawn(t *testing.T, s *sidecar, role string) *os.Process {
	t.Helper()
	return spawnAs(t, s, role, nil)
}

// spawnAs is spawn as another user.
func spawnAs(t *testing.T, s *sidecar, role string, who *syscall.Credential) *os.Process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe") // which another user may run, too
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	cmd.Env = append(os.Environ(), "SOCKET_TEST_ROLE="+role, "SOCKET_TEST_PATH="+s.path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // also ends a grandchild
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "granted\n" {
		t.Fatalf("the child said %q, %v", line, err)
	}
	return cmd.Process
}

// A peer is who the kernel says, with all its groups.
func TestPeersAreIdentified(t *testing.T) {
	asked := make(chan socket.Peer, 1)
	s := start(t, socket.Options{Authorize: func(c socket.Call) error {
		asked <- c.Peer
		return nil
	}}, nil)
	who := &syscall.Credential{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid()), NoSetGroups: true}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // who else may be another
		who = &syscall.Credential{Uid: 41001, Gid: 41002}
		groups = groups[:0]
		for i := range 100 {
			groups = append(groups, 50_000+i)
			who.Groups = append(who.Groups, uint32(50_000+i))
		}
		for path, mode := range map[string]os.FileMode{filepath.Dir(filepath.Dir(s.path)): 0o755, filepath.Dir(s.path): 0o755, s.path: 0o666} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := spawnAs(t, s, "connect", who)
	got := <-asked
	if int(got.PID) != p.Pid || got.UID != who.Uid || got.GID != who.Gid || got.Socket != s.path || len(got.Groups) != len(groups) {
		t.Fatalf("the peer is %+v, want pid %d, %+v, on %s", got, p.Pid, who, s.path)
	}
	for i, g := range groups {
		if int(got.Groups[i]) != g {
			t.Errorf("group %d is %d, want %d", i, got.Groups[i], g)
		}
	}
}

func send(t *testing.T, p *os.Process, sig syscall.Signal) {
	t.Helper()
	if err := p.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// The TTL of the children's leases is longer than the tests' patience: what is
// freed was released.

func TestDeathFreesTheLock(t *testing.T) {
	for _, role := range []string{"grpc", "http", "inherit"} {
		t.Run(role, func(t *testing.T) {
			s := start(t, socket.Options{}, nil)
			p := spawn(t, s, role)
			if n := len(s.holders(t, "held")); n != 1 {
				t.Fatalf("%d holders", n)
			}
			send(t, p, syscall.SIGKILL)
			eventually(t, "the dead process's lock is released", s.free(t, "held"))
		})
	}
}

func TestDeathDoesNotReleaseWhatLingers(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	send(t, spawn(t, s, "linger"), syscall.SIGKILL)
	eventually(t, "the keeper renews it no more", func() bool { return s.keeper.Held() == 0 })
	if n := len(s.holders(t, "held")); n != 1 {
		t.Errorf("%d holders are left of a lease that lingers, want 1", n)
	}
}

// silence is how long a process may be silent: longer than one that is well
// waits for its turn on a busy machine.
const silence = 5 * time.Second

// A stopped process answers no keep-alive: its lease is renewed no more, and not
// released, because it may go on. If it dies after all, it is released.
func TestStoppedProcessKeepsItsLeaseUntilItDies(t *testing.T) {
	for _, role := range []string{"grpc", "http"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			s := startImpatient(t, silence)
			p := spawn(t, s, role)
			send(t, p, syscall.SIGSTOP)
			eventually(t, "the keeper renews it no more", func() bool { return s.keeper.Held() == 0 })
			if n := len(s.holders(t, "held")); n != 1 {
				t.Fatalf("%d holders after the stop, want 1", n)
			}
			send(t, p, syscall.SIGKILL)
			eventually(t, "the dead process's lock is released", s.free(t, "held"))
		})
	}
}

// A client that reads keeps its lease however long it has nothing to say.
func TestQuietClientsKeepTheirLeases(t *testing.T) {
	s := startImpatient(t, silence)
	p := spawn(t, s, "grpc")
	_, lines, event := holdLine(t, s.path, "quiet", `{"ttl":"60s"}`)
	if event["granted"] == nil {
		t.Fatal(event)
	}
	for range 7 { // keep-alives, for longer than a silent peer is kept
		if b, err := lines.ReadByte(); err != nil || b != ' ' {
			t.Fatalf("between the events came %q, %v", b, err)
		}
	}
	if s.keeper.Held() != 2 {
		t.Errorf("%d leases are held, want 2", s.keeper.Held())
	}
	send(t, p, syscall.SIGTERM)
}
