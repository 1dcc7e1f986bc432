package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func newCompletion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "Print the completion script of a shell", ValidArgs: shells,
		Long: "Print the completion script of a shell. It completes commands, flags and the names of locks that are held\nor waited for.\n\n" +
			"  bash: source <(locksidecar completion bash)\n" +
			"  zsh:  locksidecar completion zsh > \"${fpath[1]}/_locksidecar\"\n" +
			"  fish: locksidecar completion fish > ~/.config/fish/completions/locksidecar.fish",
		Args: exactly("the shell"),
		RunE: func(c *cobra.Command, args []string) error {
			root, out := c.Root(), c.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return usage("shell %q: want %s", args[0], strings.Join(shells, ", "))
		},
	}
}

// completionTimeout bounds how long a shell waits for the names of locks.
const completionTimeout = time.Second

// completes makes the first argument of a command complete to the names of
// locks; without a daemon to nothing.
func (g *global) completes(c *cobra.Command) *cobra.Command {
	c.ValidArgsFunction = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			if c.Name() == "lock" {
				return nil, cobra.ShellCompDirectiveDefault // the command and its files
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return g.lockNames(c.Context(), begun), cobra.ShellCompDirectiveNoFileComp
	}
	return c
}

func (g *global) lockNames(ctx context.Context, prefix string) []string {
	cl, err := client.Open(g.endpoint)
	if err != nil {
		return nil
	}
	defer func() { _ = cl.Close() }()
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	var names []string
	for req := (&lockpb.ListRequest{Prefix: prefix}); len(names) == 0; { // a page may be empty and have a next one
		page, err := cl.List(ctx, req)
		if err != nil {
			return nil
		}
		for _, l := range page.GetLocks() {
			names = append(names, l.GetLockId())
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	return names
}
