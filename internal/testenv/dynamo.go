package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// DynamoRegion is the Region that the emulators are told.
const DynamoRegion = "eu-west-1"

// Dynamo is an emulator of DynamoDB on a free port of loopback, in memory.
type Dynamo struct {
	*Process
	dir, program, version string
	port                  int
}

// StartDynamo starts dynalite and waits until it answers.
func StartDynamo(ctx context.Context) (*Dynamo, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(root, "build", "tools", "dynalite")
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("dynalite is needed: %w; install it by: make emulators", err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, fmt.Errorf("node is needed: %w; install it by: make system", err)
	}
	return startDynamo(ctx, func(port int) *exec.Cmd {
		return exec.Command(node, "--require", filepath.Join(root, "internal", "tools", "dynalite", "survive.cjs"), program, "--host", "127.0.0.1", "--port", strconv.Itoa(port), "--createTableMs", "0", "--deleteTableMs", "0")
	})
}

// StartDynamoLocal starts Amazon's DynamoDB Local, which only whoever has accepted
// its licence has installed.
func StartDynamoLocal(t testing.TB) *Dynamo {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "build", "tools", "dynamodb-local")
	if _, err := os.Stat(filepath.Join(dir, "DynamoDBLocal.jar")); err != nil {
		t.Fatalf("DynamoDB Local is needed: %v; install it by: internal/tools/emulators dynamodb-local", err)
	}
	d, err := startDynamo(t.Context(), func(port int) *exec.Cmd {
		return exec.Command("java", "-Djava.library.path="+filepath.Join(dir, "DynamoDBLocal_lib"), "-jar", filepath.Join(dir, "DynamoDBLocal.jar"),
			"-inMemory", "-disableTelemetry", "-port", strconv.Itoa(port))
	})
	if err != nil {
		t.Fatal(err)
	}
	d.version = "DynamoDB Local"
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func startDynamo(ctx context.Context, command func(port int) *exec.Cmd) (*Dynamo, error) {
	dir, err := os.MkdirTemp("", "lsdynamo")
	if err != nil {
		return nil, err
	}
	d := &Dynamo{dir: dir, version: "dynalite 4.0.0"}
	if err := os.WriteFile(d.CredentialsFile(), []byte("[default]\naws_access_key_id = test\naws_secret_access_key = "+DynamoSecret+"\n"), 0o600); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	for range 5 { // a port may be taken between the look and the bind
		if d.port, _, err = freePorts(); err != nil {
			break
		}
		if err = d.start(ctx, command(d.port)); err == nil {
			return d, nil
		}
	}
	return nil, errors.Join(err, os.RemoveAll(dir))
}

// DynamoSecret is the secret of the credentials of the tests.
const DynamoSecret = "secret-of-the-tests"

// StartDynamoT starts dynalite for the length of a test.
func StartDynamoT(t testing.TB) *Dynamo {
	t.Helper()
	d, err := StartDynamo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *Dynamo) start(ctx context.Context, cmd *exec.Cmd) (err error) {
	d.program = filepath.Base(cmd.Path)
	if d.Process, err = run(cmd); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !d.answers(ctx) {
		select {
		case <-d.ended:
			return fmt.Errorf("%s ended: %w; it printed:\n%s", d.program, d.err, d.Process.Output())
		case <-ctx.Done():
			d.Kill()
			return fmt.Errorf("%s does not answer; it printed:\n%s", d.program, d.Process.Output())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// answers says whether something speaks HTTP on the port.
func (d *Dynamo) answers(ctx context.Context) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.Endpoint(), strings.NewReader(""))
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return true
}

// Addr is host:port.
func (d *Dynamo) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port)) }

// Endpoint is the emulator's URL.
func (d *Dynamo) Endpoint() string { return "http://" + d.Addr() }

// CredentialsFile is a file of credentials that the emulator accepts.
func (d *Dynamo) CredentialsFile() string { return filepath.Join(d.dir, "credentials") }

// URL is a backend URL of the table, which is made when it is used, with further
// parameters.
func (d *Dynamo) URL(table string, parameters ...string) string {
	return d.URLAt(d.Endpoint(), table, parameters...)
}

// URLAt is URL for another way to the emulator.
func (d *Dynamo) URLAt(endpoint, table string, parameters ...string) string {
	q := url.Values{"region": {DynamoRegion}, "endpoint": {endpoint}, "credentials_file": {d.CredentialsFile()}, "create": {"1"}}
	return "dynamodb://" + table + "?" + strings.Join(append([]string{q.Encode()}, parameters...), "&")
}

// Stop ends the emulator and removes its directory.
func (d *Dynamo) Stop() error {
	var early error
	select {
	case <-d.ended:
		early = fmt.Errorf("%s ended before it was told to; it printed:\n%s", d.program, d.Process.Output())
	default:
	}
	return errors.Join(early, d.Process.Stop(), os.RemoveAll(d.dir))
}
