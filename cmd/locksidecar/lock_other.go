//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// newLock says why there is no such command here.
func newLock(*global) *cobra.Command {
	return &cobra.Command{
		Use: "lock LOCK -- COMMAND [ARG…]", Short: "Run a command while holding a lock (Linux only)",
		RunE: func(*cobra.Command, []string) error {
			return &exitError{exitInternal, errors.New("lock needs Linux: elsewhere it could not end everything that the command started before the lease's time is over; use the API's Hold")}
		},
	}
}
