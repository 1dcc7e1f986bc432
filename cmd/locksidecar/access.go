package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/internal/app"
	"github.com/locksidecar/locksidecar/internal/policy"
	"github.com/locksidecar/locksidecar/internal/sdnotify"
)

// policyVariable names a policy file where --policy does not.
const policyVariable = "LOCKSIDECAR_POLICY"

// accessFlags are about who may do what, and how much. It returns what is to be
// called once the flags are known; it also looks whether systemd wants to hear
// of this process.
func accessFlags(c *cobra.Command, o *app.Options) (load func() error) {
	f := c.Flags()
	file := f.String("policy", "", "file that says who may acquire, inspect and force which locks (default: whoever may open the socket)")
	for _, l := range []struct {
		field       *int
		name, usage string
	}{
		{&o.Limits.Connections, "connections", "connections of one peer (default 256)"},
		{&o.Limits.Leases, "leases", "leases held for one peer (default 10000)"},
		{&o.Limits.Waiters, "waiters", "unanswered acquires of one peer (default 10000)"},
		{&o.Limits.Calls, "calls", "calls and streams of one peer under way (default 20000)"},
		{&o.Limits.Streams, "streams", "gRPC calls under way on one connection (default 1000)"},
		{&o.Limits.Message, "message", "bytes of a request (default 65536)"},
		{&o.Limits.Headers, "headers", "bytes of a request's headers (default 16384)"},
		{&o.Limits.Reason, "reason", "bytes of the reason of a force-release (default 512)"},
		{&o.Sizes.OwnerID, "owner-id", "bytes of an owner id (default 128)"},
		{&o.Sizes.MetadataKeys, "metadata-keys", "keys of a lease's metadata (default 16)"},
		{&o.Sizes.MetadataBytes, "metadata-bytes", "bytes of a lease's metadata (default 4096)"},
		{&o.Sizes.PageSize, "page", "locks on a page of a listing (default 1000)"},
	} {
		f.IntVar(l.field, "limit-"+l.name, 0, l.usage)
	}
	return func() (err error) {
		if *file == "" {
			*file = os.Getenv(policyVariable)
		}
		if *file != "" {
			if o.Policy, err = policy.Load(*file); err != nil {
				return &exitError{exitUsage, err}
			}
		}
		if o.Notifier, err = sdnotify.FromEnvironment(); err != nil {
			return &exitError{exitUsage, err}
		}
		return nil
	}
}
