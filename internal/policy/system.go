package policy

import (
	"fmt"
	"os/user"
	"strconv"
)

// System looks names up in the system's user database. A binary without cgo
// reads /etc/passwd and /etc/group alone.
var System = Lookup{
	User: func(name string) (uint32, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return 0, err
		}
		return number(u.Uid)
	},
	Group: func(name string) (uint32, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return 0, err
		}
		return number(g.Gid)
	},
}

func number(id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("its id %q is no number", id)
	}
	return uint32(n), nil
}
