package redis

import (
	"crypto/sha1" //nolint:gosec // the name that EVALSHA gives to a script
	_ "embed"
	"encoding/hex"
	"strconv"
	"strings"
)

//go:embed lua/ends.lua
var endsLua string

//go:embed lua/gate.lua
var gateLua string

//go:embed lua/stamp.lua
var stampLua string

//go:embed lua/free.lua
var freeLua string

//go:embed lua/last.lua
var lastLua string

//go:embed lua/record.lua
var recordLua string

//go:embed lua/acquire.lua
var acquireLua string

//go:embed lua/prolong.lua
var prolongLua string

//go:embed lua/release.lua
var releaseLua string

//go:embed lua/leave.lua
var leaveLua string

//go:embed lua/evict.lua
var evictLua string

//go:embed lua/inspect.lua
var inspectLua string

//go:embed lua/sweep.lua
var sweepLua string

//go:embed lua/again.lua
var againLua string

//go:embed lua/elect.lua
var electLua string

// script is a Lua script and its SHA-1. One that grants looks at the stamp.
type script struct {
	text, sha string
	grants    bool
}

// The scripts. What a script may drop, and its common case, stand before the
// record's text.
var (
	acquireScript = newScript(true, gateLua+freeLua, acquireLua)
	renewScript   = newScript(true, "", "local adopts = false\n"+prolongLua)
	adoptScript   = newScript(true, gateLua, "local adopts = true\n"+prolongLua)
	releaseScript = newScript(true, lastLua, releaseLua)
	leaveScript   = newScript(true, "", leaveLua)
	evictScript   = newScript(true, "", evictLua)
	inspectScript = newScript(false, "", inspectLua)
	sweepScript   = newScript(true, "", sweepLua)
	// These are about no record.
	stampScript = named(stampLua)
	againScript = named(againLua)
	electScript = named(electLua)
)

func newScript(prunes bool, common, body string) *script {
	sc := named(endsLua + common + "local prunes = " + strconv.FormatBool(prunes) + "\n" + recordLua + body)
	sc.grants = strings.HasPrefix(common, gateLua)
	return sc
}

func named(text string) *script {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // see the import
	return &script{text: text, sha: hex.EncodeToString(sum[:])}
}
