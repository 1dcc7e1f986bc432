package kube

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside says that the process has its namespaces.
const inside = "LOCKSIDECAR_KUBE_NAMESPACES"

// Main runs the tests of a package, or start and then the tests, in namespaces of
// their own. It ends the process. stop ends what start started; its argument says
// whether the tests failed.
func Main(m *testing.M, start func() error, stop func(failed bool)) {
	if os.Getenv(inside) == "" {
		os.Exit(outside())
	}
	if err := prepare(); err != nil {
		fmt.Fprintf(os.Stderr, "the namespaces of a cluster's tests could not be set up: %v\n", err)
		os.Exit(1)
	}
	code := 1
	if err := start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	stop(code != 0)
	os.Exit(code)
}

// outside runs this program again, in namespaces. Whoever is not root is root of
// a user namespace: enough for a control plane, not for a node.
func outside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:gosec // G702: this program, as it was called
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	// The terminal's signals reach the child by themselves; it decides.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "the tests of a cluster need namespaces of network, mounts and processes: %v; run them as root, or allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1\n", err)
		return 1
	}
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				_ = cmd.Process.Kill() // the kernel ends the namespace's processes
			}
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
}

// prepare makes the namespaces usable: no mount is seen outside, /proc is that of
// the namespace, and the network has loopback with the addresses of the node and
// of the API server's Service.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	for i, address := range []string{"127.0.0.1", NodeAddress, serviceAddress} {
		name := "lo"
		if i > 0 {
			name = fmt.Sprintf("lo:%d", i) // one more address of loopback
		}
		if err := setAddress(name, address); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("forwarding between pods: %w", err)
	}
	return nil
}

// setAddress gives the interface the address and starts it: netdevice(7).
func setAddress(name, address string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	for _, set := range []struct {
		request uint
		ip      net.IP
	}{{unix.SIOCSIFADDR, net.ParseIP(address)}, {unix.SIOCSIFNETMASK, net.IPv4bcast}} {
		if strings.HasPrefix(address, "127.") && set.request == unix.SIOCSIFNETMASK {
			continue // loopback has its own
		}
		if err := r.SetInet4Addr(set.ip.To4()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(s, set.request, r); err != nil {
			return err
		}
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}
